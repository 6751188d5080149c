/*
 * Looks of 15 s; 5, 10, 25 and 50 % of the traffic for ten minutes each, whatever anybody decides; 20 instances; stable
 * fails .5 % of its requests where a row does not say otherwise. Errors and latency, half of the budget each.
 *
 * What a delay may be is what a prototype of the method needed in the same scenarios, and a tenth more, in whole looks.
 * The prototype bet on the first look of a step, too, in which instances change sides.
 */
#include "tests/bench/sections.h"

#include "analyzer/model/simulation.h"
#include "base/memory.h"
#include "policies/load.h"
#include "tests/bench/contest.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS                                                                                                          \
    "steps: [{weight: 5%, min: 1m, max: 10m}, {weight: 10%, min: 1m, max: 10m}, "                                      \
    "{weight: 25%, min: 1m, max: 10m}, {weight: 50%, min: 1m, max: 10m}]\n"
#define ERRORS_ZERO                                                                                                    \
    "- {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', "                                     \
    "abort_above: {ratio: 1, absolute: 0%}}\n"
#define LATENCY_ZERO                                                                                                   \
    "- {name: latency, type: latency, histogram: 'seconds_bucket{$track}', abort_above: {slower: 0%}}\n"
/* Nearly all of the budget is the gauge's, and nothing fails. */
#define GAUGE(above)                                                                                                   \
    "- {name: errors, type: errors, budget: 1%, total: 'all{$track}', failed: 'bad{$track}'}\n"                        \
    "- {name: memory, type: gauge, budget: 99%, critical: true, query: 'bytes{$track}', abort_above: " above "}\n"

static const int64_t step_ms = 600000;
static const double look_minutes = 0.25, schedule_minutes = 40;

static const char *const rule_names[RULES] = {
    [RULE_HALDANE] = "haldane",
    [RULE_HALDANE_ZERO] = "haldane, no margin",
    [RULE_PEERS + PEER_KAYENTA_STEPS] = "Kayenta, step ends",
    [RULE_PEERS + PEER_KAYENTA_LOOKS] = "Kayenta, each look",
    [RULE_PEERS + PEER_RANKS_STEPS] = "Mann-Whitney, step ends",
    [RULE_PEERS + PEER_RANKS_LOOKS] = "Mann-Whitney, each look",
    [RULE_PEERS + PEER_THRESHOLD] = "threshold",
    [RULE_PEERS + PEER_FISHER_ERRORS] = "Fisher, errors",
    [RULE_PEERS + PEER_FISHER_BOTH] = "Fisher, errors or slow",
    [RULE_PEERS + PEER_SPRT] = "SPRT, ratio known",
};

/* What differs from a named scenario; 0: nothing. */
struct row {
    const char *name, *scenario;
    double rps, error_rate, error_ratio, pod_rho, arm_rho;
    unsigned rounds;
    bool harsh;           /* noise beyond what the usual margins are for: held to the policy's false_abort alone */
    bool unlimited;       /* noise that no comparison can stand: shown, not held to a limit */
    double delay_minutes; /* of the prototype; 0: none */
};

static struct scenario scenario_of_row(const struct row *row)
{
    struct scenario scenario;
    bool known = scenario_named(row->scenario, row->rps > 0 ? row->rps : 100, 0.005, &scenario);
    assert(known);
    scenario.rps = row->rps > 0 ? row->rps : scenario.rps;
    scenario.error_rate = row->error_rate > 0 ? row->error_rate : scenario.error_rate;
    scenario.error_ratio = row->error_ratio > 0 ? row->error_ratio : scenario.error_ratio;
    scenario.pod_rho = row->pod_rho > 0 ? row->pod_rho : scenario.pod_rho;
    scenario.arm_rho = row->arm_rho > 0 ? row->arm_rho : scenario.arm_rho;
    scenario.rounds = row->rounds > 0 ? row->rounds : scenario.rounds;
    scenario.step_ms = scenario.step_ms > 0 ? scenario.step_ms : step_ms;
    return scenario;
}

/* The columns of a table, and the policies of its haldane. */
struct board {
    struct policy *policy, *zero;
    bool asked[RULES];
};

static struct board board_open(const char *usual, const char *zero, const enum rule rules[], size_t count)
{
    struct board board = {sheet_policy(STEPS, usual), sheet_policy(STEPS, zero), {false}};
    for (size_t r = 0; r < count; r++)
        board.asked[rules[r]] = true;
    return board;
}

static void board_close(struct board *board)
{
    policy_free(board->policy);
    policy_free(board->zero);
}

static void add_header(struct table *table, const struct board *board, const char *first)
{
    table->columns = 1;
    table_add(table, mem_strdup(first));
    for (int r = 0; r < RULES; r++) {
        if (!board->asked[r])
            continue;
        table_add(table, mem_strdup(rule_names[r]));
        table->columns++;
    }
}

static void run_row(const struct sheet *sheet, const struct board *board, const struct scenario *scenario,
                    uint64_t runs, double ratio, struct contest_result results[RULES])
{
    struct contest contest = {.scenario = scenario,
                              .policy = board->policy,
                              .zero = board->zero,
                              .ratio = ratio,
                              .runs = runs,
                              .seed = sheet->seed,
                              .jobs = sheet->jobs};
    memcpy(contest.asked, board->asked, sizeof contest.asked);
    contest_run(&contest, results);
}

static void add_rates(struct table *table, const struct board *board, const char *name,
                      const struct contest_result results[RULES])
{
    table_add(table, mem_strdup(name));
    for (int r = 0; r < RULES; r++)
        if (board->asked[r])
            table_add(table, rate_text(results[r].aborts, results[r].runs));
}

/* --- nothing is wrong with the canary --- */

static const struct row healthy[] = {
    {.name = "aa-iid", .scenario = "aa-iid"},
    {.name = "aa-incident", .scenario = "aa-incident"},
    {.name = "aa-pods", .scenario = "aa-pods"},
    {.name = "aa-pods-0.05", .scenario = "aa-pods", .pod_rho = 0.05, .harsh = true},
    {.name = "aa-bursts", .scenario = "aa-bursts"},
    {.name = "aa-arm", .scenario = "aa-arm"},
    {.name = "aa-arm-0.05", .scenario = "aa-arm", .arm_rho = 0.05, .harsh = true},
    {.name = "aa-resets", .scenario = "aa-resets"},
    {.name = "aa-split", .scenario = "aa-split"},
    {.name = "aa-1rps", .scenario = "aa-1rps"},
    {.name = "aa-10rps", .scenario = "aa-10rps"},
    {.name = "aa-1000rps", .scenario = "aa-iid", .rps = 1000},
    {.name = "aa-1000rps-pods", .scenario = "aa-pods", .rps = 1000},
    {.name = "aa-1600-looks", .scenario = "aa-iid", .rps = 20, .error_rate = 0.02, .rounds = 10},
    {.name = "aa-drift-0.8", .scenario = "aa-drift-0.8", .unlimited = true},
};

static void hold_false_aborts(struct sheet *sheet, const struct row *row, const struct contest_result results[RULES])
{
    const struct contest_result *usual = &results[RULE_HALDANE], *zero = &results[RULE_HALDANE_ZERO];
    if (row->unlimited)
        return;
    limit_rate(sheet, row->name, usual->aborts, usual->runs, row->harsh ? 0.05 : 0.01);
    limit_rate(sheet, row->name, zero->aborts, zero->runs, 0.05);
    /* A test that never errs would be wasting its budget. */
    if (strcmp(row->name, "aa-iid") == 0)
        limit_least(sheet, row->name, "false aborts without margin", simulation_share(zero->aborts, zero->runs), 0.005);
}

/* Who is asked of requests; the last one knows the harm, so that it has nothing to say of a healthy canary. */
static const enum rule request_rules[] = {RULE_HALDANE,
                                          RULE_HALDANE_ZERO,
                                          RULE_PEERS + PEER_KAYENTA_STEPS,
                                          RULE_PEERS + PEER_KAYENTA_LOOKS,
                                          RULE_PEERS + PEER_THRESHOLD,
                                          RULE_PEERS + PEER_FISHER_ERRORS,
                                          RULE_PEERS + PEER_FISHER_BOTH,
                                          RULE_PEERS + PEER_SPRT};
enum { REQUEST_RULES = sizeof request_rules / sizeof request_rules[0] };

static struct board board_of_requests(size_t rules)
{
    return board_open(METRIC_ERRORS_USUAL METRIC_LATENCY_USUAL, ERRORS_ZERO LATENCY_ZERO, request_rules, rules);
}

void section_false_aborts(struct sheet *sheet)
{
    struct board board = board_of_requests(REQUEST_RULES - 1);
    struct table table = {.caption = "False aborts: the share of healthy canaries aborted in a whole rollout"};
    add_header(&table, &board, "scenario");
    for (size_t r = 0; r < sizeof healthy / sizeof healthy[0]; r++) {
        const struct row *row = &healthy[r];
        struct contest_result results[RULES];
        if (!sheet_wants(sheet, "false-aborts", row->name))
            continue;
        sheet_progress("false-aborts", row->name);
        struct scenario scenario = scenario_of_row(row);
        run_row(sheet, &board, &scenario, sheet->runs, 1, results);
        add_rates(&table, &board, row->name, results);
        hold_false_aborts(sheet, row, results);
    }
    sheet_progress("", "");
    table_print(&table, sheet);
    board_close(&board);
}

/* --- the same for a gauge --- */

/*
 * An instance's noise lasts from look to look, as a gauge's does. After five minutes of history haldane's blocks are
 * long, and in 160 looks there are few of them: 1600 looks tell more.
 */
static const struct gauge_row {
    const char *name;
    double phi;
    unsigned rounds;
} gauge_rows[] = {
    {"gauge-iid", 0, 1}, {"gauge-ar-0.7", 0.7, 1}, {"gauge-iid-1600", 0, 10}, {"gauge-ar-0.7-1600", 0.7, 10}};

void section_gauges(struct sheet *sheet)
{
    static const enum rule rules[] = {RULE_HALDANE,
                                      RULE_HALDANE_ZERO,
                                      RULE_PEERS + PEER_KAYENTA_STEPS,
                                      RULE_PEERS + PEER_KAYENTA_LOOKS,
                                      RULE_PEERS + PEER_RANKS_STEPS,
                                      RULE_PEERS + PEER_RANKS_LOOKS};
    struct board board =
        board_open(GAUGE("{ratio: 1.25}"), GAUGE("{ratio: 1, absolute: 0}"), rules, sizeof rules / sizeof rules[0]);
    struct table table = {.caption =
                              "False aborts on a gauge alone, 160 or 1600 looks, each instance's noise independent or "
                              "AR(1)"};
    add_header(&table, &board, "scenario");
    for (size_t r = 0; r < sizeof gauge_rows / sizeof gauge_rows[0]; r++) {
        struct contest_result results[RULES];
        const struct row plain = {.name = gauge_rows[r].name, .scenario = "aa-iid", .rounds = gauge_rows[r].rounds};
        if (!sheet_wants(sheet, "gauges", plain.name))
            continue;
        sheet_progress("gauges", plain.name);
        struct scenario scenario = scenario_of_row(&plain);
        scenario.error_rate = 0;
        scenario.gauge_phi = gauge_rows[r].phi;
        run_row(sheet, &board, &scenario, plain.rounds > 1 ? sheet_fewer(sheet) : sheet->runs, 1, results);
        add_rates(&table, &board, plain.name, results);
        hold_false_aborts(sheet, &plain, results);
    }
    sheet_progress("", "");
    table_print(&table, sheet);
    board_close(&board);
}

/* --- something is --- */

static const struct row harmful[] = {
    {.name = "err-1.2", .scenario = "err-1.2"},
    {.name = "err-1.5", .scenario = "err-1.5", .delay_minutes = 26.5},
    {.name = "err-2", .scenario = "err-2", .delay_minutes = 11.6},
    {.name = "err-3", .scenario = "err-3"},
    {.name = "err-5", .scenario = "err-5", .delay_minutes = 3.0},
    {.name = "err-2-pods", .scenario = "err-2-pods", .delay_minutes = 19.2},
    {.name = "err-2-bursts", .scenario = "err-2-bursts"},
    {.name = "p99-10", .scenario = "p99-10", .delay_minutes = 37.9},
    {.name = "p99-20", .scenario = "p99-20", .delay_minutes = 16.5},
    {.name = "p99-50", .scenario = "p99-50", .delay_minutes = 6.8},
    {.name = "lat-10", .scenario = "lat-10", .delay_minutes = 9.8},
    {.name = "lat-20", .scenario = "lat-20", .delay_minutes = 3.4},
    {.name = "lat-50", .scenario = "lat-50", .delay_minutes = 2.2},
    {.name = "leak", .scenario = "leak", .delay_minutes = 13.8},
    {.name = "crash", .scenario = "crash", .delay_minutes = 0.8},
    {.name = "1rps-2", .scenario = "1rps-2"},
    {.name = "1rps-5", .scenario = "1rps-5"},
    {.name = "1rps-20", .scenario = "1rps-20", .delay_minutes = 19.6},
    {.name = "1rps-100", .scenario = "1rps-100", .delay_minutes = 6.8},
    {.name = "10rps-1.2", .scenario = "err-1.2", .rps = 10},
    {.name = "10rps-1.5", .scenario = "err-1.5", .rps = 10},
    {.name = "10rps-2", .scenario = "err-2", .rps = 10, .delay_minutes = 37.8},
    {.name = "10rps-3", .scenario = "err-3", .rps = 10},
    {.name = "10rps-5", .scenario = "err-5", .rps = 10, .delay_minutes = 14.0},
    {.name = "1000rps-1.2", .scenario = "err-1.2", .rps = 1000},
    {.name = "1000rps-1.5", .scenario = "err-1.5", .rps = 1000, .delay_minutes = 6.8},
    {.name = "1000rps-2", .scenario = "err-2", .rps = 1000, .delay_minutes = 2.8},
    {.name = "1000rps-3", .scenario = "err-3", .rps = 1000},
    {.name = "1000rps-5", .scenario = "err-5", .rps = 1000},
};
enum { HARMFUL = sizeof harmful / sizeof harmful[0] };

/* What the SPRT knows. Harm that sets in later, grows or is added has no one ratio. */
static double ratio_of(const struct scenario *scenario)
{
    bool constant = scenario->onset_ms == 0 && scenario->grow_ms == 0 && !(scenario->error_added > 0);
    return constant ? scenario->error_ratio : 1;
}

static char *delay_text(const struct contest_result *result)
{
    char *minutes = minutes_text(result->delay_ms);
    char *text = mem_printf("%s (%.2f ± %.2f)", minutes, simulation_share(result->aborts, result->runs),
                            simulation_error(result->aborts, result->runs));
    free(minutes);
    return text;
}

static char *cost_text(const struct contest_result *result)
{
    if (isnan(result->harmed))
        return mem_strdup("–");
    char *requests = number_text(result->canary_requests);
    if (!(result->harmed > 0))
        return requests;
    char *text = mem_printf("%.0f of %s", result->harmed, requests);
    free(requests);
    return text;
}

static void add_cells(struct table *table, const struct board *board, const struct row *row, double ratio,
                      const struct contest_result results[RULES], char *(*text_of)(const struct contest_result *))
{
    table_add(table, mem_strdup(row->name));
    for (int r = 0; r < RULES; r++) {
        bool knows = r != RULE_PEERS + PEER_SPRT || ratio > 1;
        if (board->asked[r])
            table_add(table, knows ? text_of(&results[r]) : mem_strdup(""));
    }
}

/* Rows of errors alone, which differ from each other in size: the larger the harm, the surer and sooner. */
static bool is_worse(const struct scenario *worse, const struct scenario *than)
{
    return worse->rps == than->rps && worse->error_ratio > than->error_ratio && than->error_ratio > 1 &&
           worse->grow_ms == than->grow_ms && worse->pod_rho == than->pod_rho && worse->bursts == than->bursts;
}

static void hold_order(struct sheet *sheet, const struct row *row, const struct contest_result *worse,
                       const struct contest_result *than)
{
    double p = simulation_share(worse->aborts, worse->runs), q = simulation_share(than->aborts, than->runs);
    double error = hypot(simulation_error(worse->aborts, worse->runs), simulation_error(than->aborts, than->runs));
    limit_least(sheet, row->name, "share aborted, as against less harm", p, q - 3 * error);
    if (!isnan(than->delay_ms))
        limit_most(sheet, row->name, "median delay in minutes, as against less harm", worse->delay_ms / 60000,
                   than->delay_ms / 60000);
}

/* An abort comes with a look. */
static double whole_looks(double minutes)
{
    return ceil(minutes / look_minutes) * look_minutes;
}

/*
 * A limit beyond the end of the schedule is kept if half of the runs were aborted by the end, or would be but for
 * chance: the time that is left is not waited for.
 */
static void hold_delay(struct sheet *sheet, const struct row *row, const struct contest_result *found)
{
    double limit = whole_looks(1.1 * row->delay_minutes);
    if (limit <= schedule_minutes || !isnan(found->delay_ms)) {
        limit_most(sheet, row->name, "median delay in minutes", found->delay_ms / 60000, limit);
        return;
    }
    double error = sqrt(0.25 / (double)found->runs);
    limit_least(sheet, row->name, "share aborted by the end of the schedule",
                simulation_share(found->aborts, found->runs), 0.5 - 3 * error);
}

static void hold_power(struct sheet *sheet, const bool done[HARMFUL], const struct contest_result found[HARMFUL])
{
    for (size_t r = 0; r < HARMFUL; r++) {
        struct scenario scenario = scenario_of_row(&harmful[r]);
        if (done[r] && harmful[r].delay_minutes > 0)
            hold_delay(sheet, &harmful[r], &found[r]);
        for (size_t s = 0; s < r; s++) {
            struct scenario other = scenario_of_row(&harmful[s]);
            if (done[r] && done[s] && is_worse(&scenario, &other))
                hold_order(sheet, &harmful[r], &found[r], &found[s]);
        }
    }
}

void section_power(struct sheet *sheet)
{
    struct board board = board_of_requests(REQUEST_RULES);
    struct table delays = {.caption = "Bad canaries: minutes from the onset to the abort, median (share aborted); – if "
                                      "less than half are"};
    struct table costs = {.caption =
                              "What they cost: requests that failed and would not have on stable, of the canary's "
                              "requests until the abort, medians; of a slow canary only the latter"};
    bool done[HARMFUL] = {false};
    struct contest_result found[HARMFUL] = {0};
    add_header(&delays, &board, "scenario");
    add_header(&costs, &board, "scenario");
    for (size_t r = 0; r < HARMFUL; r++) {
        struct contest_result results[RULES];
        if (!sheet_wants(sheet, "power", harmful[r].name))
            continue;
        sheet_progress("power", harmful[r].name);
        struct scenario scenario = scenario_of_row(&harmful[r]);
        double ratio = ratio_of(&scenario);
        run_row(sheet, &board, &scenario, sheet->runs, ratio, results);
        add_cells(&delays, &board, &harmful[r], ratio, results, delay_text);
        add_cells(&costs, &board, &harmful[r], ratio, results, cost_text);
        done[r] = true;
        found[r] = results[RULE_HALDANE];
    }
    sheet_progress("", "");
    table_print(&delays, sheet);
    table_print(&costs, sheet);
    hold_power(sheet, done, found);
    board_close(&board);
}
