/* The named scenarios. What a row does not say is as in `usual`. */
#include "analyzer/trials/scenario.h"

#include <string.h>

#define MINUTE INT64_C(60000)

/* Twenty instances, 80 ms in the median and 0.17 s at 90 %, a load that wanders by 10 % over some two minutes. */
static const struct scenario usual = {.pods = 20,
                                      .latency_s = 0.08,
                                      .latency_sigma = 0.6,
                                      .load_sd = 0.1,
                                      .load_phi = 0.9,
                                      .error_ratio = 1,
                                      .incident_errors = 1,
                                      .incident_slower = 1,
                                      .burst_errors = 1,
                                      .rounds = 1};

/* Of a row, 0 means `usual`, or the traffic that the caller gives. */
static const struct scenario named[] = {
    /* Nothing is wrong with the canary. */
    {.name = "aa-iid", .summary = "as good as stable; requests fail independently"},
    {.name = "aa-incident",
     .summary = "as good as stable; both fail 10 times as often and are 30 % slower in minutes 12 to 17",
     .incident_from_ms = 12 * MINUTE,
     .incident_to_ms = 17 * MINUTE,
     .incident_errors = 10,
     .incident_slower = 1.3},
    {.name = "aa-pods",
     .summary = "as good as stable; each instance fails and slows down in its own way",
     .pod_rho = 0.01,
     .pod_latency_sd = 0.15},
    {.name = "aa-bursts",
     .summary = "as good as stable; now and then some 50 requests fail together",
     .bursts = 0.02,
     .burst_errors = 50},
    {.name = "aa-arm", .summary = "as good as stable; each side has noise of its own in every look", .arm_rho = 0.01},
    {.name = "aa-resets", .summary = "as good as stable; canary instances restart", .restarts = 5.0 / 160},
    {.name = "aa-1rps", .summary = "as good as stable; one request a second", .rps = 1},
    {.name = "aa-10rps", .summary = "as good as stable; ten requests a second", .rps = 10},
    {.name = "aa-split",
     .summary = "as good as stable; the split changes during an incident of both too",
     .incident_from_ms = 12 * MINUTE,
     .incident_to_ms = 17 * MINUTE,
     .incident_errors = 10,
     .incident_slower = 1.3,
     .step_ms = 150000,
     .rounds = 4},
    {.name = "aa-drift-0.5",
     .summary = "as good as stable; each side's noise lasts for about two looks",
     .arm_sd = 0.3,
     .arm_phi = 0.5},
    {.name = "aa-drift-0.8",
     .summary = "as good as stable; each side's noise lasts for about five looks",
     .arm_sd = 0.3,
     .arm_phi = 0.8},
    {.name = "aa-drift-0.95",
     .summary = "as good as stable; each side's noise lasts for about 20 looks, which no comparison can tell from harm",
     .arm_sd = 0.3,
     .arm_phi = 0.95},

    /* The canary fails more often. */
    {.name = "err-1.2", .summary = "the canary fails 1.2 times as often", .error_ratio = 1.2},
    {.name = "err-1.5", .summary = "the canary fails 1.5 times as often", .error_ratio = 1.5},
    {.name = "err-2", .summary = "the canary fails twice as often", .error_ratio = 2},
    {.name = "err-3", .summary = "the canary fails 3 times as often", .error_ratio = 3},
    {.name = "err-5", .summary = "the canary fails 5 times as often", .error_ratio = 5},
    {.name = "err-2-pods",
     .summary = "the canary fails twice as often; each instance fails and slows down in its own way",
     .error_ratio = 2,
     .pod_rho = 0.01,
     .pod_latency_sd = 0.15},
    {.name = "err-2-bursts",
     .summary = "the canary fails twice as often; now and then some 50 requests fail together",
     .error_ratio = 2,
     .bursts = 0.02,
     .burst_errors = 50},
    {.name = "err-2-incident",
     .summary = "the canary fails twice as often; both fail 10 times as often in minutes 2 to 7",
     .error_ratio = 2,
     .incident_from_ms = 2 * MINUTE,
     .incident_to_ms = 7 * MINUTE,
     .incident_errors = 10,
     .incident_slower = 1.3},
    {.name = "margin", .summary = "the canary fails exactly as often as promote_below says", .at_margin = true},
    {.name = "leak",
     .summary = "the canary fails more and more from minute 5 on, 5 times as often at minute 40",
     .error_ratio = 5,
     .onset_ms = 5 * MINUTE,
     .grow_ms = 35 * MINUTE},
    {.name = "crash",
     .summary = "half of the canary's requests fail from minute 10 on",
     .error_added = 0.5,
     .onset_ms = 10 * MINUTE},

    /* The canary is slower. */
    {.name = "lat-10", .summary = "the canary is 10 % slower", .slower = 0.1},
    {.name = "lat-20", .summary = "the canary is 20 % slower", .slower = 0.2},
    {.name = "lat-50", .summary = "the canary is 50 % slower", .slower = 0.5},
    {.name = "p99-10",
     .summary = "the canary's slowest tenth is stretched until p99 is 10 % longer",
     .tail_slower = 0.1},
    {.name = "p99-20",
     .summary = "the canary's slowest tenth is stretched until p99 is 20 % longer",
     .tail_slower = 0.2},
    {.name = "p99-50",
     .summary = "the canary's slowest tenth is stretched until p99 is 50 % longer",
     .tail_slower = 0.5},

    /* Other traffic. */
    {.name = "1rps-2", .summary = "one request a second; the canary fails twice as often", .rps = 1, .error_ratio = 2},
    {.name = "1rps-5", .summary = "one request a second; it fails 5 times as often", .rps = 1, .error_ratio = 5},
    {.name = "1rps-20", .summary = "one request a second; it fails 20 times as often", .rps = 1, .error_ratio = 20},
    {.name = "1rps-100", .summary = "one request a second; it fails 100 times as often", .rps = 1, .error_ratio = 100},
    {.name = "10rps-2", .summary = "ten requests a second; it fails twice as often", .rps = 10, .error_ratio = 2},
    {.name = "10rps-5", .summary = "ten requests a second; it fails 5 times as often", .rps = 10, .error_ratio = 5},
    {.name = "1000rps-1.5",
     .summary = "a thousand requests a second; the canary fails 1.5 times as often",
     .rps = 1000,
     .error_ratio = 1.5},
    {.name = "1000rps-2",
     .summary = "a thousand requests a second; the canary fails twice as often",
     .rps = 1000,
     .error_ratio = 2},
};
const size_t scenario_count = sizeof named / sizeof named[0];

const char *scenario_name(size_t index)
{
    return named[index].name;
}

const char *scenario_summary(size_t index)
{
    return named[index].summary;
}

static double or_usual(double value, double otherwise)
{
    return value > 0 ? value : otherwise;
}

static struct scenario complete(const struct scenario *row, double rps, double error_rate)
{
    struct scenario scenario = *row;
    scenario.rps = or_usual(row->rps, rps);
    scenario.error_rate = error_rate;
    scenario.pods = row->pods ? row->pods : usual.pods;
    scenario.latency_s = or_usual(row->latency_s, usual.latency_s);
    scenario.latency_sigma = or_usual(row->latency_sigma, usual.latency_sigma);
    scenario.load_sd = or_usual(row->load_sd, usual.load_sd);
    scenario.load_phi = or_usual(row->load_phi, usual.load_phi);
    scenario.error_ratio = or_usual(row->error_ratio, usual.error_ratio);
    scenario.incident_errors = or_usual(row->incident_errors, usual.incident_errors);
    scenario.incident_slower = or_usual(row->incident_slower, usual.incident_slower);
    scenario.burst_errors = or_usual(row->burst_errors, usual.burst_errors);
    scenario.rounds = row->rounds ? row->rounds : usual.rounds;
    return scenario;
}

bool scenario_named(const char *name, double rps, double error_rate, struct scenario *scenario)
{
    for (size_t i = 0; i < scenario_count; i++) {
        if (strcmp(named[i].name, name) == 0) {
            *scenario = complete(&named[i], rps, error_rate);
            return true;
        }
    }
    return false;
}

enum fault scenario_fault(const struct scenario *scenario, double *size)
{
    double unused;
    size = size ? size : &unused;
    *size = 0;
    if (scenario->at_margin || scenario->error_ratio != 1 || scenario->error_added > 0) {
        *size = scenario->error_ratio;
        return FAULT_ERRORS;
    }
    if (scenario->slower > 0) {
        *size = scenario->slower;
        return FAULT_SLOWER;
    }
    if (scenario->tail_slower > 0) {
        *size = scenario->tail_slower;
        return FAULT_TAIL;
    }
    return FAULT_NONE;
}

bool scenario_is_healthy(const struct scenario *scenario)
{
    return scenario_fault(scenario, NULL) == FAULT_NONE;
}
