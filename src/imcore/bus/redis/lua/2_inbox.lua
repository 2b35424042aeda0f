-- Inboxes. `user:NAME` is a hash: head, first (absent = 1), size, expired, and for each device NAME `a:` the highest number
-- accepted from it, `t:` up to where it has taken, `s:` when it was seen. `inbox:NAME` is a stream whose entry SEQ-0 is
-- message SEQ; it is not there when nothing is kept. `keys:NAME` maps keys to numbers, `own:NAME` and `old:NAME` say
-- which of them may be forgotten first. `aging` has users by when their oldest message may be too old to be kept.
local KEYS_KEPT, ANSWERS_KEPT, DEVICES_KEPT, SEEN_MS, AGED = 1000, 16, 64, 3600000, 1000

local function names(user)
  return tag .. 'user:' .. user, tag .. 'inbox:' .. user
end

-- Let go of everything below `upto`; how many messages that were.
local function drop(user, head, first, upto)
  local state, stream = names(user)
  local gone = upto - first
  if gone <= 0 then
    return 0
  end
  if upto > head then
    redis.call('DEL', stream)
    redis.call('HSET', state, 'first', text(upto), 'size', 0)
  else
    local size = tonumber(redis.call('HGET', state, 'size') or 0)
    redis.call('XTRIM', stream, 'MINID', text(upto) .. '-0')
    redis.call('HSET', state, 'first', text(upto), 'size', text(math.floor(size * (head - upto + 1) / (head - first + 1))))
  end
  return gone
end

local function expire(user, head, first, upto)
  local gone = drop(user, head, first, upto)
  if gone > 0 then
    redis.call('HINCRBY', tag .. 'user:' .. user, 'expired', gone)
    count('expired', gone)
  end
end

-- Which of a user's routes stand: fields `order:way:life:node`.
local function connected(user, device)
  for _, field in ipairs(redis.call('HKEYS', tag .. 'routes:' .. user)) do
    local life, node = string.match(field, '^%d+:%a+:(%x+):(.*)$')
    if life and alive(node, life) then
      local value = cmsgpack.unpack(redis.call('HGET', tag .. 'routes:' .. user, field))
      if value[1] == device then
        return true
      end
    end
  end
  return false
end

-- Let go of what all devices that count have taken.
local function settle_floor(user, head, first)
  local fields, taken, seen, floor = redis.call('HGETALL', tag .. 'user:' .. user), {}, {}, nil
  for i = 1, #fields, 2 do
    local kind, device = string.sub(fields[i], 1, 2), string.sub(fields[i], 3)
    if kind == 't:' then
      taken[device] = tonumber(fields[i + 1])
    elseif kind == 's:' then
      seen[device] = tonumber(fields[i + 1])
    end
  end
  for device, seq in pairs(taken) do
    if (seen[device] or 0) >= now - device_ttl or connected(user, device) then
      floor = math.min(floor or seq, seq)
    end
  end
  if floor and floor >= first then
    count('delivered', drop(user, head, first, floor + 1))
  end
end

local function take(user, device, seq, head, first, taken)
  seq = math.min(seq, head)
  if seq > taken then
    redis.call('HSET', tag .. 'user:' .. user, 't:' .. device, text(seq), 's:' .. device, text(now))
    settle_floor(user, head, first)
  end
end

local function standing(state, device)
  local found = redis.call('HMGET', state, 'head', 'first', 't:' .. device, 'a:' .. device, 's:' .. device)
  return tonumber(found[1] or 0), tonumber(found[2] or 1), tonumber(found[3] or -1), found[4] or '0', tonumber(found[5] or 0)
end

-- A user has so many devices at most: the one unseen for longest makes room.
local function make_room(state)
  local fields, seen, oldest = redis.call('HGETALL', state), {}, nil
  local devices = 0
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 's:' then
      devices = devices + 1
      local device, at = string.sub(fields[i], 3), tonumber(fields[i + 1])
      if not oldest or at < seen[oldest] then
        oldest = device
      end
      seen[device] = at
    end
  end
  if devices >= DEVICES_KEPT then
    redis.call('HDEL', state, 't:' .. oldest, 's:' .. oldest, 'a:' .. oldest)
  end
end

-- {head, first, resumed, accepted}
function ops.open(user, device, epoch, resume, fresh, down)
  local state = names(user)
  local head, oldest, taken, accepted, seen = standing(state, device)
  if down == '0' then
    return {head, head + 1, 1, accepted}
  end
  local first, resumed = oldest, true
  if resume ~= '' then
    resume = tonumber(resume)
    if epoch ~= redis.call('HGET', meta, 'epoch') or resume > head or resume + 1 < oldest then
      resumed = false
    else
      first = resume + 1
    end
  elseif taken >= 0 then
    first, resumed = math.max(taken + 1, oldest), taken + 1 >= oldest
  elseif fresh == 'head' then
    first = head + 1
  end
  if taken < 0 or now - seen > SEEN_MS then
    if taken < 0 then
      make_room(state)
    end
    taken = math.max(taken, first - 1)
    redis.call('HSET', state, 't:' .. device, text(taken), 's:' .. device, text(now))
    settle_floor(user, head, oldest)
  end
  if resume ~= '' and resumed then
    take(user, device, resume, head, tonumber(redis.call('HGET', state, 'first') or 1), taken)
  end
  return {head, first, resumed and 1 or 0, accepted}
end

function ops.taken(user, device, seq)
  local head, first, taken = standing(names(user), device)
  if taken >= 0 then -- a device that only sends has no cursor to move
    take(user, device, tonumber(seq), head, first, taken)
  end
  return 0
end

-- Append, and wake the nodes that hold a link of the user's, but for the one that asks: it wakes its own. `own`: the key
-- is the program's own, not that of a message in the queue. The number; below 0: this key had it before.
function ops.append(user, route, body, key, own, here)
  local state, stream = names(user)
  local keys = tag .. 'keys:' .. user
  if key ~= '' then
    local known = redis.call('HGET', keys, key)
    if known then
      return -tonumber(known)
    end
  end
  local head = redis.call('HINCRBY', state, 'head', 1)
  local seq = text(head)
  redis.call('XADD', stream, seq .. '-0', 'r', route, 'b', body, 't', text(now))
  local size = redis.call('HINCRBY', state, 'size', #body)
  local first = tonumber(redis.call('HGET', state, 'first') or 1)
  count('appended', 1)
  if first == head then
    redis.call('ZADD', tag .. 'aging', 'NX', text(now + most_age), user)
  elseif head - first >= most_count then
    expire(user, head, first, head - most_count + 1)
  elseif size > most_size then
    local kept = head - first + 1
    expire(user, head, first, first + math.min(kept - 1, math.ceil((size - most_size) * kept / size)))
  end
  if key ~= '' then
    redis.call('HSET', keys, key, seq)
    if own == '1' and redis.call('RPUSH', tag .. 'own:' .. user, key) > KEYS_KEPT then
      redis.call('HDEL', keys, redis.call('LPOP', tag .. 'own:' .. user))
    end
  end
  local told = {}
  for _, field in ipairs(redis.call('HKEYS', tag .. 'routes:' .. user)) do
    local life, node = string.match(field, '^%d+:%a+:(%x+):(.*)$')
    if node ~= here and not told[node] and alive(node, life) then
      told[node] = true
      redis.call('XADD', wakes(node), 'MAXLEN', '~', 100000, '*', 'u', user, 'q', seq, 'r', route, 'b', body)
    end
  end
  return head
end

-- The message that this key is of has left the queue: the key is remembered for a little while only.
function ops.forget(user, key)
  if redis.call('RPUSH', tag .. 'old:' .. user, key) > ANSWERS_KEPT then
    redis.call('HDEL', tag .. 'keys:' .. user, redis.call('LPOP', tag .. 'old:' .. user))
  end
  return 0
end

-- The entries behind `after`; the caller looks at bytes.
function ops.read(user, after, most)
  local state, stream = names(user)
  local first = tonumber(redis.call('HGET', state, 'first') or 1)
  local from = math.max(tonumber(after), first - 1)
  return redis.call('XRANGE', stream, '(' .. text(from) .. '-0', '+', 'COUNT', most)
end

function ops.head(user)
  return tonumber(redis.call('HGET', names(user), 'head') or 0)
end

function ops.accepted(user, device)
  return redis.call('HGET', names(user), 'a:' .. device) or '0'
end

-- Expire what is too old, of a few users; how many were looked at.
function ops.age(most)
  local due = redis.call('ZRANGEBYSCORE', tag .. 'aging', '-inf', text(now), 'LIMIT', 0, most)
  for _, user in ipairs(due) do
    local state, stream = names(user)
    local head, first = unpack(redis.call('HMGET', state, 'head', 'first'))
    head, first = tonumber(head or 0), tonumber(first or 1)
    local upto, next_look = first, nil
    for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', AGED)) do
      local at = tonumber(entry[2][6])
      upto = tonumber(string.match(entry[1], '^%d+'))
      if at + most_age > now then
        next_look = at + most_age
        break
      end
      upto = upto + 1
    end
    expire(user, head, first, upto)
    if upto > head then
      redis.call('ZREM', tag .. 'aging', user)
    else
      redis.call('ZADD', tag .. 'aging', text(next_look or now), user)
    end
  end
  return #due
end
