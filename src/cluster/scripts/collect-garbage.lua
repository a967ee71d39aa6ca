-- Deletes rows of an epoch that is over.
--
-- KEYS[1]  garbage      set: "node epoch"
-- KEYS[2]  rows         hash of that node and epoch: row key -> "part row"
-- KEYS[3]  listeners    hash of the first row's hybrid connection: row key -> "node epoch"; one more key for each row
-- ARGV[1]  "node epoch"
-- ARGV[2]  row key; one more for each row
--
-- Returns  how many rows are left; with none, the epoch is no garbage any more
--
-- One step, because a row may be registered again under a new epoch at any time, and must stay then.
local garbage, rows = KEYS[1], KEYS[2]
local owner = ARGV[1]

for i = 3, #KEYS do
  local key = ARGV[2 + i - 3]
  redis.call('HDEL', rows, key)
  if redis.call('HGET', KEYS[i], key) == owner then
    redis.call('HDEL', KEYS[i], key)
  end
end
local left = redis.call('HLEN', rows)
if left == 0 then
  redis.call('SREM', garbage, owner)
end
return left
