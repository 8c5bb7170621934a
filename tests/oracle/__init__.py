"""The oracle: a second, independent account of what Spendline should have done.

It shares no code with the services. It reads spend.calls from the first record, decides and prices each record again
with its own decoder, its own integers and its own rules, and names every place where Kafka, Postgres or the provider's
log say something else. docs/attributor.md says how to
read its answers.
"""
