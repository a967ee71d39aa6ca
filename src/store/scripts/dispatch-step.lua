-- Takes one step of job dispatch: compares all that must hold, then writes all of it.
--
-- KEYS  of documents (strings "version text"), indexes (sorted sets) and logs (streams with ids 0-number), all of one partition
-- ARGV  conditions, then writes, in the order in which they are looked at and done. Each is its name, the number of its key, and
--         version   the version that the document has, 0 for none
--         below     the count that the index must not have reached
--         member    a member, "1" when it must be in the index, "0" when it must not
--         remove    nothing; a document, an index or a log
--         put       text of the document
--         drop      member
--         add       score, member
--         append    how many entries to keep, text of the entry
--
-- Returns  -1 done, otherwise the number of the first condition that does not hold, from 0; nothing was written then
--
-- One step, because what was compared must still hold when it is written, and half a transition is a lost run.
local function version_of(key)
  return string.match(redis.call('GETRANGE', key, 0, 16), '^(%d+) ') or '0'
end

local function next_number(key)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not last then
    return '1'
  end
  return string.format('%.0f', tonumber(string.match(last[1], '^0%-(%d+)$')) + 1)
end

local conditions = {
  version = { 1, function(key, version) return version_of(key) == version end },
  below = { 1, function(key, count) return redis.call('ZCARD', key) < tonumber(count) end },
  member = { 2, function(key, member, is_in)
    return (redis.call('ZSCORE', key, member) and '1' or '0') == is_in
  end },
}
local writes = {
  remove = { 0, function(key) redis.call('UNLINK', key) end },
  put = { 1, function(key, text)
    redis.call('SET', key, string.format('%.0f', tonumber(version_of(key)) + 1) .. ' ' .. text)
  end },
  drop = { 1, function(key, member) redis.call('ZREM', key, member) end },
  add = { 2, function(key, score, member) redis.call('ZADD', key, score, member) end },
  append = { 2, function(key, keep, text)
    redis.call('XADD', key, 'MAXLEN', '=', keep, '0-' .. next_number(key), 'text', text)
  end },
}

local at, number = 1, 0
while conditions[ARGV[at]] do
  local arity, holds = unpack(conditions[ARGV[at]])
  if not holds(KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2], ARGV[at + 3]) then
    return number
  end
  at, number = at + 2 + arity, number + 1
end
while ARGV[at] do
  local arity, write = unpack(writes[ARGV[at]])
  write(KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2], ARGV[at + 3])
  at = at + 2 + arity
end
return -1
