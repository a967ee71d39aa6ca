-- Registers one listener, if its hybrid connection may have one more.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  leases       sorted set: node -> end of its lease in ms of TIME
-- KEYS[3]  nodes        hash: node -> "epoch part record"
-- KEYS[4]  digests      hash: node -> digest
-- KEYS[5]  feed         stream, ids incarnation-seq
-- KEYS[6]  rows         hash of this node and epoch: row key -> "part row"
-- KEYS[7]  listeners    hash of this hybrid connection: row key -> "node epoch"
-- ARGV[1]  node
-- ARGV[2]  epoch
-- ARGV[3]  row key
-- ARGV[4]  digest part of the row
-- ARGV[5]  row as JSON
-- ARGV[6]  the row for the feed: [[key, part, row]] as JSON
-- ARGV[7]  how many live listeners the hybrid connection may have
-- ARGV[8]  length to which the feed is trimmed, about
--
-- Returns  "claimed" (also when this node and epoch had claimed it before), "quota-reached", "lease-lost"
--
-- One step, because several nodes claim at once and must not exceed the quota together. A row counts
-- while the lease it was written under is the node's and has not run out.
local meta, leases, nodes, digests, feed, rows, listeners =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local node, epoch, key, part, row, entry = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local listeners_max, feed_max = tonumber(ARGV[7]), ARGV[8]

local incarnation = redis.call('HGET', meta, 'incarnation')
if string.match(redis.call('HGET', nodes, node) or '', '^(%S+)') ~= epoch or not incarnation then
  return 'lease-lost'
end
if redis.call('HEXISTS', rows, key) == 1 then
  return 'claimed'
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = node .. ' ' .. epoch
local is_live = { [owner] = true }
local live = 0
local held = redis.call('HGETALL', listeners)
for i = 1, #held, 2 do
  local other = held[i + 1]
  if is_live[other] == nil then
    local other_node, other_epoch = string.match(other, '^(%S+) (%S+)$')
    local record = other_node and redis.call('HGET', nodes, other_node)
    local is_current = record and string.match(record, '^(%S+)') == other_epoch
    local ends_ms = is_current and redis.call('ZSCORE', leases, other_node)
    is_live[other] = ends_ms and tonumber(ends_ms) > now_ms or false
  end
  if is_live[other] then
    live = live + 1
  end
end
if live >= listeners_max then
  return 'quota-reached'
end

redis.call('HSET', rows, key, part .. ' ' .. row)
redis.call('HSET', listeners, key, owner)
local digest = (tonumber(redis.call('HGET', digests, node) or '0') + part) % 281474976710656
local digest_text = string.format('%.0f', digest)
redis.call('HSET', digests, node, digest_text)
local id = incarnation .. '-' .. string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, id,
  'type', 'rows', 'node', node, 'epoch', epoch, 'digest', digest_text, 'data', entry)
return 'claimed'
