#!lua
-- A batch of operations on one shard, in the order of their calls: all that an engine does to Redis goes through here.
-- KEYS[1] is the shard's `meta`; every other key begins like it, so it has the same hash tag and the same slot. KEYS[2] is
-- never there: a cluster that moves the slot does not begin what names it.
-- ARGV: client, number of the batch, whether to remember its results, what is there at most (messages of an inbox, its
-- bytes, age and device_ttl in ms), then each operation: its name, how many arguments, the arguments.
-- Answer: {position, messages in the queue, epoch, results}.
local meta = KEYS[1]
local tag = string.sub(meta, 1, -5)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local client, number = ARGV[1], ARGV[2]
local remembered = ARGV[3] == '1' and tag .. 'done:' .. client
local most_count, most_size = tonumber(ARGV[4]), tonumber(ARGV[5])
local most_age, device_ttl = tonumber(ARGV[6]), tonumber(ARGV[7])
local queue, group = tag .. 'up', 'services'
local ops = {}

-- Numbers become text without an exponent.
local function text(value)
  return string.format('%.0f', value)
end

-- What happened, written down once, at the end.
local counted = {}
local function count(name, by)
  if by ~= 0 then
    counted[name] = (counted[name] or 0) + by
  end
end

-- The next of a row of numbers that the shard gives out.
local rows = {}
local function next_of(name)
  rows[name] = (rows[name] or tonumber(redis.call('HGET', meta, name) or 0)) + 1
  return rows[name]
end

-- A node holds its routes and rooms as long as its lease lasts, under the name of its life: `nodes` has life and end.
local lives = {}
local function alive(node, life)
  if lives[node] == nil then
    local lease = redis.call('HGET', tag .. 'nodes', node)
    local name, last = string.match(lease or '', '^(%x+) (%d+)$')
    lives[node] = name and tonumber(last) > now and name or ''
  end
  return lives[node] == life
end

local function wakes(node)
  return tag .. 'wakes:' .. node
end
