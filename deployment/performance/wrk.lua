-- What wrk measured, as one JSON object in the file that $WRK_RESULT names: wrk itself speaks to people only.

function done(summary, latency, requests)
    local errors = summary.errors
    local file = assert(io.open(os.getenv("WRK_RESULT"), "w"))
    file:write(string.format(
        '{"requests":%d,"seconds":%.3f,"failed":%d,"p50_ms":%.3f,"p95_ms":%.3f,"p99_ms":%.3f}\n',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000))
    file:close()
end
