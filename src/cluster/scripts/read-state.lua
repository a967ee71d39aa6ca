-- All nodes, and the point of the feed at which they were so.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  leases       sorted set: node -> end of its lease in ms of TIME
-- KEYS[3]  nodes        hash: node -> "epoch part record"
-- KEYS[4]  digests      hash: node -> digest
--
-- Returns  {incarnation, seq, {node, "epoch part record", ...}, {node, digest, ...}, {node, end of its lease, ...}}
--          {} when there is no directory
--
-- One step, because the digests must be those of that seq.
local meta, leases, nodes, digests = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local place = redis.call('HMGET', meta, 'incarnation', 'seq')
if not place[1] or not place[2] then
  return {}
end
return {
  place[1], place[2],
  redis.call('HGETALL', nodes),
  redis.call('HGETALL', digests),
  redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES'),
}
