-- All records, and the point of the feed at which they were so.
--
-- KEYS[1]  meta                hash: schema, incarnation, seq, tag
-- KEYS[2]  namespaces          hash: namespace -> "version text"
-- KEYS[3]  hybrid connections  hash: namespace/name -> "version text"
--
-- Returns  {incarnation, seq, tag, {key, "version text", ...} of namespaces, the same of hybrid connections}
--          incarnation, seq and tag are "" when nothing was ever written, or all was lost
--
-- One step, because the records must be those of that seq.
local meta, namespaces, hybrid_connections = KEYS[1], KEYS[2], KEYS[3]

local place = redis.call('HMGET', meta, 'incarnation', 'seq', 'tag')
return {
  place[1] or '', place[2] or '', place[3] or '',
  redis.call('HGETALL', namespaces),
  redis.call('HGETALL', hybrid_connections),
}
