-- Entries of a log behind a number.
--
-- KEYS[1]  log    stream with ids 0-number
-- ARGV[1]  after  number of the last entry that the caller has, 0 for none
-- ARGV[2]  limit
--
-- Returns  {id of the oldest entry that is kept, {entry, ...}}  entries as XRANGE gives them
--          {"", {}}                                             the log is empty
--
-- One step, because a log that is trimmed between two looks would seem to have no gap.
local log = KEYS[1]
local after, limit = ARGV[1], ARGV[2]

local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
if not first then
  return { '', {} }
end
return { first[1], redis.call('XRANGE', log, '(0-' .. after, '+', 'COUNT', limit) }
