-- Keyed requests the simple way: claim the key, call the upstream, keep the answer, replay it.
-- One round trip to Redis for the claim, one for the result, over pooled connections.
local LEASE_MS = 15000
local TTL_MS = 86400000

local function bulk(...)
  local parts = { "*", select("#", ...), "\r\n" }
  for _, argument in ipairs({ ... }) do
    parts[#parts + 1] = "$" .. #argument .. "\r\n"
    parts[#parts + 1] = argument
    parts[#parts + 1] = "\r\n"
  end
  return table.concat(parts)
end

-- The reply of a SET: nil where Redis says nil, "OK", or the value that was there.
local function redis(command)
  local connection = ngx.socket.tcp()
  connection:settimeout(1000)
  assert(connection:connect("127.0.0.1", REDIS_PORT))
  assert(connection:send(command))
  local line = assert(connection:receive("*l"))
  local reply
  if line == "+OK" then
    reply = "OK"
  elseif line == "$-1" or line == "_" then
    reply = nil
  elseif line:sub(1, 1) == "$" then
    reply = assert(connection:receive(tonumber(line:sub(2))))
    assert(connection:receive(2))
  else
    error("redis: " .. line)
  end
  connection:setkeepalive(60000, 256)
  return reply
end

local function refuse(status, code)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print('{"error":{"code":"' .. code .. '"}}')
end

local function replay(record)
  local head, body = record:match("^(.-)\n\n(.*)$")
  local lines = head:gmatch("[^\n]+")
  ngx.status = tonumber(lines())
  for line in lines do
    local name, value = line:match("^(.-): (.*)$")
    ngx.header[name] = value
  end
  ngx.header["X-Idempotent-Replayed"] = "true"
  ngx.header["Content-Length"] = #body
  ngx.print(body)
end

local function keep(id, fingerprint, answer)
  local parts = { tostring(answer.status) }
  for name, value in pairs(answer.header) do
    parts[#parts + 1] = name .. ": " .. tostring(value)
  end
  local record = "C" .. fingerprint .. table.concat(parts, "\n") .. "\n\n" .. answer.body
  redis(bulk("SET", id, record, "PX", tostring(TTL_MS)))
end

local function execute(id, fingerprint, body)
  local answer = ngx.location.capture("/upstream" .. ngx.var.uri, { method = ngx.HTTP_POST, body = body })
  keep(id, fingerprint, answer)
  ngx.status = answer.status
  for name, value in pairs(answer.header) do
    ngx.header[name] = value
  end
  ngx.print(answer.body)
end

ngx.req.read_body()
local body = ngx.req.get_body_data() or ""
local caller = ngx.var.http_authorization or ""
local id = "idempotency:lua:" .. ngx.md5(caller .. "\n" .. ngx.var.http_idempotency_key)
local fingerprint = ngx.md5(ngx.var.request_method .. "\n" .. ngx.var.request_uri .. "\n" .. body)
local claim = "E" .. fingerprint .. ngx.var.request_id
local found = redis(bulk("SET", id, claim, "NX", "GET", "PX", tostring(LEASE_MS)))
if not found then
  execute(id, fingerprint, body)
elseif found:sub(2, 33) ~= fingerprint then
  refuse(422, "IDEMPOTENCY_KEY_CONFLICT")
elseif found:sub(1, 1) == "E" then
  refuse(409, "DUPLICATE_REQUEST_IN_PROGRESS")
else
  replay(found:sub(34))
end
