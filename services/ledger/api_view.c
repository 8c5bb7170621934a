#include "api_view.h"

#include "base/money.h"

const char *api_view_id_name(enum registry_kind kind)
{
    static const char *const name[] = {
        [REGISTRY_ACCOUNT] = "account_id", [REGISTRY_KEY] = "key_hash",
        [REGISTRY_TIER] = "name",          [REGISTRY_TASK] = "task_id",
        [REGISTRY_MODEL] = "alias",        [REGISTRY_CONVERSATION] = "conversation_id",
    };
    return name[kind];
}

void api_view_text(struct json_write *w, const char *key, struct strview text)
{
    json_write_key(w, key);
    json_write_sv(w, text);
}

void api_view_usd(struct json_write *w, const char *key, struct opt_i64 nanos)
{
    json_write_key(w, key);
    if (nanos.has)
        json_write_usd(w, nanos.v);
    else
        json_write_null(w);
}

void api_view_time(struct json_write *w, const char *key, struct opt_i64 utc_us)
{
    json_write_key(w, key);
    if (utc_us.has)
        json_write_time(w, utc_us.v);
    else
        json_write_null(w);
}

void api_view_markup(struct json_write *w, const char *key, int64_t ppm)
{
    char text[MONEY_TEXT_MAX];
    size_t len = money_format_scaled(ppm, 6, text);
    api_view_text(w, key, (struct strview){text, len});
}

static void view_texts(struct json_write *w, const char *key, const struct strview *texts, size_t count)
{
    json_write_key(w, key);
    json_write_open(w, '[');
    for (size_t i = 0; i < count; i++)
        json_write_sv(w, texts[i]);
    json_write_close(w, ']');
}

static void view_policy(struct json_write *w, const struct tag_policy *policy)
{
    json_write_key(w, "tag_policy");
    if (!policy->has) {
        json_write_null(w);
        return;
    }
    json_write_open(w, '{');
    view_texts(w, "require", policy->require, policy->require_count);
    json_write_key(w, "trust");
    if (policy->trust == TRUST_DEFAULT)
        json_write_null(w);
    else
        json_write_str(w, tag_trust_name(policy->trust));
    view_texts(w, "accounts", policy->accounts, policy->account_count);
    json_write_close(w, '}');
}

void api_view_version(struct json_write *w, enum registry_kind kind, const struct registry_version *v)
{
    switch (kind) {
    case REGISTRY_ACCOUNT:
        api_view_text(w, "tier", v->tier);
        break;
    case REGISTRY_TIER:
        api_view_markup(w, "markup", v->markup_ppm.v);
        break;
    case REGISTRY_KEY:
        api_view_text(w, "account_id", v->account_id);
        api_view_text(w, "user", v->user);
        api_view_text(w, "team", v->team);
        view_texts(w, "tags", v->tags, v->tag_count);
        view_policy(w, &v->tag_policy);
        break;
    case REGISTRY_TASK:
        api_view_text(w, "account_id", v->account_id);
        api_view_text(w, "conversation_id", v->conversation_id);
        break;
    case REGISTRY_CONVERSATION:
        api_view_text(w, "account_id", v->account_id);
        break;
    case REGISTRY_MODEL:
        api_view_text(w, "price_key", v->price_key);
        break;
    case REGISTRY_HEARTBEAT:
    case REGISTRY_KIND_COUNT:
        break;
    }
}

void api_view_history(struct json_write *w, const struct registry_fact *fact)
{
    json_write_key(w, "versions");
    json_write_open(w, '[');
    for (size_t i = 0; i < fact->record.version_count; i++) {
        const struct registry_version *v = &fact->record.versions[i];
        json_write_open(w, '{');
        api_view_time(w, "effective_from", OPT_I64(v->effective_from));
        api_view_time(w, "recorded_at", OPT_I64(v->recorded_at));
        api_view_version(w, fact->record.kind, v);
        json_write_close(w, '}');
    }
    json_write_close(w, ']');
}

void api_view_fact(struct json_write *w, const struct registry_fact *fact)
{
    const struct registry_version *last = &fact->record.versions[fact->record.version_count - 1];
    json_write_open(w, '{');
    api_view_text(w, api_view_id_name(fact->record.kind), fact->record.id);
    api_view_version(w, fact->record.kind, last);
    api_view_time(w, "effective_from", OPT_I64(last->effective_from));
    api_view_time(w, "recorded_at", OPT_I64(last->recorded_at));
    api_view_history(w, fact);
    json_write_close(w, '}');
}
