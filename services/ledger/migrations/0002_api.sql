-- How the API writes values. All three are exact: nothing is rounded here.

-- Nano-USD as the shortest decimal text: 1500 -> 0.0000015.
CREATE FUNCTION usd(nanos bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN trim_scale(nanos * 0.000000001)::text;

-- A factor in parts per million: 1300000 -> 1.3.
CREATE FUNCTION factor(ppm bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN trim_scale(ppm * 0.000001)::text;

-- RFC 3339 in UTC, to the microsecond.
CREATE FUNCTION rfc3339(t timestamptz) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
