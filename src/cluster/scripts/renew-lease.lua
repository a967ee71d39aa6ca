-- Extends a node's lease, and tells what the node should know every few seconds.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  leases       sorted set: node -> end of its lease in ms of TIME
-- KEYS[3]  nodes        hash: node -> "epoch part record"
-- KEYS[4]  digests      hash: node -> digest
-- KEYS[5]  garbage      set: "node epoch"
-- ARGV[1]  node
-- ARGV[2]  epoch
-- ARGV[3]  lease in milliseconds, from now
-- ARGV[4]  how many late leases to name at most
--
-- Returns  {"lease-lost"}   the lease was removed, taken by another epoch, or the directory is gone
--          {"renewed", incarnation, seq, {node, digest, ...}, {late node, end of its lease or "0" for none, ...}, {garbage member or nothing}}
--
-- One step, because the digests must be those of that seq. A lease that ran out but was not removed is
-- extended: nobody has been told that it ended. A lease moves with every renewal, also with two in a
-- millisecond: whoever is challenged shows by that that it lives.
local meta, leases, nodes, digests, garbage = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local node, epoch, lease_ms, late_max = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local held = redis.call('HGET', nodes, node)
local place = redis.call('HMGET', meta, 'incarnation', 'seq')
if not held or string.match(held, '^(%S+)') ~= epoch or not place[1] or not place[2] then
  return { 'lease-lost' }
end
local ended_ms = redis.call('ZSCORE', leases, node)
if not ended_ms then
  return { 'lease-lost' }
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local ends_ms = now_ms + lease_ms
if ends_ms == tonumber(ended_ms) then
  ends_ms = ends_ms + 1
end
redis.call('ZADD', leases, string.format('%.0f', ends_ms), node)
local late = redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.0f', now_ms), 'WITHSCORES', 'LIMIT', 0, late_max)
if redis.call('HLEN', nodes) > redis.call('ZCARD', leases) then
  -- Somebody removed leases. Who lives takes a new one; who does not must not stay for ever.
  for _, other in ipairs(redis.call('HKEYS', nodes)) do
    if not redis.call('ZSCORE', leases, other) then
      late[#late + 1] = other
      late[#late + 1] = '0'
    end
  end
end
return { 'renewed', place[1], place[2], redis.call('HGETALL', digests), late, redis.call('SRANDMEMBER', garbage, 1) }
