-- Writes listeners of one node without asking for the quota: they are connected already.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  nodes        hash: node -> "epoch part record"
-- KEYS[3]  digests      hash: node -> digest
-- KEYS[4]  feed         stream, ids incarnation-seq
-- KEYS[5]  rows         hash of this node and epoch: row key -> "part row"
-- KEYS[6]  listeners    hash of the first row's hybrid connection: row key -> "node epoch"; one more key for each row
-- ARGV[1]  node
-- ARGV[2]  epoch
-- ARGV[3]  the rows for the feed: [[key, part, row], ...] as JSON
-- ARGV[4]  length to which the feed is trimmed, about
-- ARGV[5]  row key, ARGV[6] digest part, ARGV[7] row as JSON; three more for each row
--
-- Returns  "written", "lease-lost"
--
-- One step, because rows, quota, digest and feed must agree.
local meta, nodes, digests, feed, rows = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local node, epoch, entry, feed_max = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local incarnation = redis.call('HGET', meta, 'incarnation')
if string.match(redis.call('HGET', nodes, node) or '', '^(%S+)') ~= epoch or not incarnation then
  return 'lease-lost'
end

local owner = node .. ' ' .. epoch
local digest = tonumber(redis.call('HGET', digests, node) or '0')
for i = 6, #KEYS do
  local at = 5 + (i - 6) * 3
  local key, part, row = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local old = redis.call('HGET', rows, key)
  -- Reduced each time: the sum of a hundred parts would not be exact in a double.
  digest = (digest + part - (old and string.match(old, '^(%d+) ') or 0)) % 281474976710656
  redis.call('HSET', rows, key, part .. ' ' .. row)
  redis.call('HSET', KEYS[i], key, owner)
end
local digest_text = string.format('%.0f', digest)
redis.call('HSET', digests, node, digest_text)
local id = incarnation .. '-' .. string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, id,
  'type', 'rows', 'node', node, 'epoch', epoch, 'digest', digest_text, 'data', entry)
return 'written'
