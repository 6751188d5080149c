/*
 * A cell is one policy over one length of looks. All cells of a length see the same draws, so that what differs between
 * them is the policy; the last check sees draws that nothing was chosen by.
 *
 * Which promotion a step would have got plays no part: the weights follow a fixed schedule, so the evidence of harm of
 * each metric is the same whatever the others say, and a metric can be judged alone.
 */
#include "analyzer/trials/calibrate.h"

#include "analyzer/judge/judge.h"
#include "analyzer/judge/margins.h"
#include "analyzer/trials/crew.h"
#include "analyzer/trials/history.h"
#include "analyzer/trials/scenario.h"
#include "base/duration.h"
#include "base/memory.h"

#include <assert.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Fewer looks than a live rollout learns from, so that more of the history is left for rollouts. */
    BEFORE_LOOKS = 20,
    LEAST_LOOKS = 10,
    LENGTHS = 4,
    RUNGS = 4,
};
static const int64_t lengths[LENGTHS] = {1, 2, 4, 8};
static const double wider_ratio[RUNGS] = {1.1, 1.25, 1.5, 2}, wider_slower[RUNGS] = {0.05, 0.1, 0.2, 0.4};

/* The history in looks of one length, and how rollouts are laid over it. */
struct span {
    struct evidence *evidence; /* owned */
    struct history *history;
    int64_t look_ms;
    size_t looks, starts, windows; /* looks of a rollout; places where it may begin; rollouts without an overlap */
    uint64_t draws;
    bool all;
};

struct outcome {
    bool harm, beside, held, undecided;
    uint32_t window;
};

struct cell {
    const struct span *span;
    struct policy policy;          /* a copy that borrows all but `metrics` */
    struct policy_metric *metrics; /* owned; the policy's */
    struct outcome *outcomes;      /* one per draw */
    struct calibration_rate *rate; /* where the result goes */
};

struct bench {
    const struct calibrate_setup *setup;
    struct policy policy;          /* the metrics that can be divided, without guardrails on queries of the canary */
    struct policy_metric *metrics; /* the policy's */
    struct pool pool;
    size_t canaries;
    double subsets; /* ways to choose them */
    int64_t planned_ms;
    struct span spans[LENGTHS];
    size_t span_count;
    struct calibration *result;
};

/* --- one draw --- */

struct draw {
    size_t *canaries;
    size_t start;
};

static double choose(size_t n, size_t k)
{
    double ways = 1;
    for (size_t i = 1; i <= k; i++)
        ways = round(ways * (double)(n - k + i) / (double)i);
    return ways;
}

/* The rank-th of the choices of k among n, in the order of the alphabet. */
static void unrank(double rank, size_t n, size_t k, size_t *chosen)
{
    for (size_t c = 0, place = 0; c < k; place++) {
        double with = choose(n - place - 1, k - c - 1);
        if (rank < with)
            chosen[c++] = place;
        else
            rank -= with;
    }
}

/* The same draw number begins at about the same time in looks of every length. */
static void make_draw(const struct bench *bench, const struct span *span, uint64_t number, uint32_t seed,
                      struct draw *draw)
{
    size_t n = bench->pool.count, k = bench->canaries;
    if (span->all) {
        unrank(fmod((double)number, bench->subsets), n, k, draw->canaries);
        draw->start = (size_t)((double)number / bench->subsets);
        return;
    }
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, seed);
    draw->start = (size_t)(gsl_rng_uniform(rng) * (double)span->starts);
    size_t *places = mem_alloc(n, sizeof *places);
    for (size_t i = 0; i < n; i++)
        places[i] = i;
    gsl_ran_choose(rng, draw->canaries, k, places, n, sizeof *places);
    free(places);
    gsl_rng_free(rng);
}

static bool is_last_compared(const struct policy *policy, size_t step)
{
    return step + 1 == policy->step_count || policy->steps[step + 1].weight_bp > COMPARED_BP;
}

/* What a standing adds. True: the rollout is over. */
static bool take_note(struct judge_standing standing, struct outcome *outcome)
{
    outcome->held |= standing.cause == BECAUSE_SUSPECTED;
    outcome->undecided |= standing.cause == BECAUSE_EXPIRED;
    outcome->harm = standing.cause == BECAUSE_HARM;
    outcome->beside |= standing.cause == BECAUSE_GUARDRAIL || standing.cause == BECAUSE_KAYENTA;
    return outcome->harm || standing.cause == BECAUSE_GUARDRAIL || standing.cause == BECAUSE_KAYENTA;
}

static void roll_out(const struct span *span, const struct policy *policy, struct split *split, size_t start,
                     struct outcome *outcome)
{
    const struct evidence *evidence = history_evidence(span->history);
    struct judge *judge = judge_new(policy);
    size_t step = 0, look = start;
    for (; look < start + BEFORE_LOOKS; look++)
        judge_observe(judge, evidence, split_look(split, look, 0, INT64_MIN));
    int64_t since_ms = history_at(span->history, look - 1);
    bool over = false;
    for (; !over && look < start + BEFORE_LOOKS + span->looks; look++) {
        while (!is_last_compared(policy, step) &&
               history_at(span->history, look) - since_ms > policy->steps[step].max_ms)
            since_ms += policy->steps[step++].max_ms;
        judge_observe(judge, evidence, split_look(split, look, policy->steps[step].weight_bp, since_ms));
        over = take_note(judge_standing(judge), outcome);
    }
    judge_free(judge);
}

/*
 * What stands beside false_abort ends a rollout for good and would hide the harm that it ends before: then it is run
 * again without it.
 */
static struct outcome run_draw(const struct bench *bench, const struct cell *cell, struct split *split, uint64_t number,
                               uint64_t stream)
{
    struct outcome outcome = {0};
    uint32_t seed = crew_seed(bench->setup->seed, stream * bench->setup->runs + number);
    struct draw draw = {.canaries = mem_alloc(bench->canaries, sizeof *draw.canaries)};
    make_draw(bench, cell->span, number, seed, &draw);
    /* The generators of the draw and of the thinning must not give the same numbers. */
    uint32_t thinning = crew_seed(~bench->setup->seed, stream * bench->setup->runs + number);
    split_begin(split, draw.canaries, bench->canaries, thinning);
    roll_out(cell->span, &cell->policy, split, draw.start, &outcome);
    if (outcome.beside) {
        struct policy calm = cell->policy;
        calm.crash.times = 0;
        calm.kayenta.marginal = -INFINITY;
        split_begin(split, draw.canaries, bench->canaries, thinning);
        roll_out(cell->span, &calm, split, draw.start, &outcome);
    }
    size_t window = draw.start / cell->span->looks;
    outcome.window = (uint32_t)(window < cell->span->windows ? window : cell->span->windows - 1);
    free(draw.canaries);
    return outcome;
}

/* --- many --- */

struct work {
    const struct bench *bench;
    struct cell *cells;
    size_t count;
    uint64_t stream;
};

/* What one thread works with. */
struct tools {
    const struct span *span;
    struct split *split;
};

static void *open_tools(void *context)
{
    (void)context;
    return mem_alloc(1, sizeof(struct tools));
}

static void close_tools(void *tools)
{
    split_close(((struct tools *)tools)->split);
    free(tools);
}

static void run_task(uint64_t task, void *tools, void *context)
{
    const struct work *work = context;
    struct tools *own = tools;
    const struct cell *cell = work->cells;
    while (task >= cell->span->draws)
        task -= (cell++)->span->draws;
    if (own->span != cell->span) {
        split_close(own->split);
        own->split = split_open(cell->span->history);
        own->span = cell->span;
    }
    cell->outcomes[task] = run_draw(work->bench, cell, own->split, task, work->stream);
}

/* See calibrate.h. */
static double error_of(const struct outcome *outcomes, uint64_t draws, size_t windows, double share)
{
    double least = sqrt(share * (1 - share) / (double)draws);
    if (windows < 2)
        return sqrt(share * (1 - share));
    double *sums = mem_alloc(windows, sizeof *sums);
    for (uint64_t d = 0; d < draws; d++)
        sums[outcomes[d].window] += outcomes[d].harm - share;
    double own = 0, neighbours = 0;
    for (size_t g = 0; g < windows; g++) {
        own += sums[g] * sums[g];
        neighbours += g > 0 ? sums[g] * sums[g - 1] : 0;
    }
    free(sums);
    double variance = (double)windows / (double)(windows - 1) * (own + 2 * fmax(0, neighbours));
    return fmax(least, sqrt(variance) / (double)draws);
}

static void sum_up(const struct cell *cell)
{
    struct calibration_rate rate = {.draws = cell->span->draws};
    for (uint64_t d = 0; d < rate.draws; d++) {
        const struct outcome *outcome = &cell->outcomes[d];
        rate.harm += outcome->harm;
        rate.beside += outcome->beside;
        rate.held += outcome->held;
        rate.undecided += outcome->undecided;
    }
    rate.error = error_of(cell->outcomes, rate.draws, cell->span->windows, calibration_share(&rate));
    *cell->rate = rate;
}

/* Runs the cells, puts their rates where they belong, and frees what the cells own. */
static void run_cells(const struct bench *bench, struct cell *cells, size_t count, uint64_t stream)
{
    const struct calibrate_setup *setup = bench->setup;
    struct work work = {bench, cells, count, stream};
    struct crew crew = {.threads = setup->threads,
                        .start = open_tools,
                        .run = run_task,
                        .finish = close_tools,
                        .context = &work,
                        .progress = setup->progress,
                        .progress_context = setup->context};
    for (size_t c = 0; c < count; c++) {
        cells[c].outcomes = mem_alloc(cells[c].span->draws, sizeof *cells[c].outcomes);
        crew.tasks += cells[c].span->draws;
    }
    crew_run(&crew);
    for (size_t c = 0; c < count; c++) {
        sum_up(&cells[c]);
        free(cells[c].outcomes);
        free(cells[c].metrics);
    }
}

/* --- cells --- */

static void set_margin(struct policy_metric *metric, double margin)
{
    if (metric->type == METRIC_LATENCY)
        metric->abort_slower = margin;
    else
        metric->abort_ratio = margin;
}

static double margin_of(const struct policy_metric *metric)
{
    return metric->type == METRIC_LATENCY ? metric->abort_slower : metric->abort_ratio;
}

/* All metrics. The caller may change the copies. */
static struct cell whole_cell(const struct bench *bench, const struct span *span, struct calibration_rate *rate)
{
    struct cell cell = {.span = span, .policy = bench->policy, .rate = rate};
    cell.metrics = mem_alloc(bench->policy.metric_count, sizeof *cell.metrics);
    memcpy(cell.metrics, bench->metrics, bench->policy.metric_count * sizeof *cell.metrics);
    cell.policy.metrics = cell.metrics;
    cell.policy.look_ms = span->look_ms;
    return cell;
}

/* The metric alone, with its part of the budget. */
static struct cell single_cell(const struct bench *bench, const struct span *span, const char *name, double margin,
                               struct calibration_rate *rate)
{
    struct cell cell = whole_cell(bench, span, rate);
    size_t m = 0;
    while (strcmp(cell.metrics[m].name, name) != 0)
        m++;
    cell.metrics[0] = cell.metrics[m];
    set_margin(&cell.metrics[0], margin);
    cell.policy.metric_count = 1;
    cell.policy.crash.times = 0;
    return cell;
}

static void run_grid(struct bench *bench)
{
    struct calibration *result = bench->result;
    size_t count = 1;
    for (size_t m = 0; m < result->metric_count; m++)
        count += result->look_count * result->metrics[m].margin_count;
    struct cell *cells = mem_alloc(count, sizeof *cells);
    size_t made = 0;
    cells[made++] = whole_cell(bench, &bench->spans[0], &result->policy);
    for (size_t l = 0; l < result->look_count; l++) {
        for (size_t m = 0; m < result->metric_count; m++) {
            struct calibration_metric *metric = &result->metrics[m];
            for (size_t r = 0; r < metric->margin_count; r++)
                cells[made++] = single_cell(bench, &bench->spans[l], metric->name, metric->margins[r],
                                            &metric->rates[l * metric->margin_count + r]);
        }
    }
    run_cells(bench, cells, count, 0);
    free(cells);
}

/* --- what to recommend --- */

/* The first margin that is wide enough for looks of length `l`; margin_count if none is. */
static size_t narrowest(const struct calibration_metric *metric, size_t l)
{
    size_t r = 0;
    while (r < metric->margin_count && !calibration_keeps(&metric->rates[l * metric->margin_count + r], metric->limit))
        r++;
    return r;
}

static void try_jointly(const struct bench *bench, size_t l, uint64_t stream)
{
    struct calibration *result = bench->result;
    struct cell cell = whole_cell(bench, &bench->spans[l], &result->joint);
    for (size_t m = 0, i = 0; m < result->metric_count; m++, i++) {
        while (strcmp(cell.metrics[i].name, result->metrics[m].name) != 0)
            i++;
        set_margin(&cell.metrics[i], result->metrics[m].margins[result->margins[m]]);
    }
    run_cells(bench, &cell, 1, stream);
    result->look = l;
    result->found = calibration_keeps(&result->joint, result->false_abort_limit);
}

/* Widens the margin of the metric that takes most of its limit; false: none can be. */
static bool widen_one(struct calibration *result, size_t l)
{
    struct calibration_metric *worst = NULL;
    double most = -INFINITY;
    for (size_t m = 0; m < result->metric_count; m++) {
        struct calibration_metric *metric = &result->metrics[m];
        const struct calibration_rate *rate = &metric->rates[l * metric->margin_count + result->margins[m]];
        double taken = calibration_upper(rate) / metric->limit;
        if (result->margins[m] + 1 < metric->margin_count && taken > most) {
            most = taken;
            worst = metric;
        }
    }
    if (worst)
        result->margins[worst - result->metrics]++;
    return worst != NULL;
}

static bool recommend_at(const struct bench *bench, size_t l, uint64_t *stream)
{
    struct calibration *result = bench->result;
    for (size_t m = 0; m < result->metric_count; m++) {
        result->margins[m] = narrowest(&result->metrics[m], l);
        if (result->margins[m] == result->metrics[m].margin_count)
            return false;
    }
    do
        try_jointly(bench, l, (*stream)++);
    while (!result->found && widen_one(result, l));
    return result->found;
}

static void recommend(const struct bench *bench)
{
    struct calibration *result = bench->result;
    for (size_t m = 0; m < result->metric_count; m++)
        result->metrics[m].narrowest = narrowest(&result->metrics[m], 0);
    if (calibration_policy_keeps(result)) {
        result->found = true;
        result->joint = result->policy;
        return;
    }
    uint64_t stream = 1;
    for (size_t l = 0; l < result->look_count && !result->found; l++)
        recommend_at(bench, l, &stream);
}

/* --- what there is --- */

static void take_metrics(struct bench *bench)
{
    const struct policy *policy = bench->setup->policy;
    bench->policy = *policy;
    bench->policy.guardrail_count = 0;
    bench->policy.metric_count = 0;
    bench->metrics = mem_alloc(policy->metric_count, sizeof *bench->metrics);
    for (size_t m = 0; m < policy->metric_count; m++) {
        if (history_divides(bench->setup->evidence, policy, m))
            bench->metrics[bench->policy.metric_count++] = policy->metrics[m];
        else
            calibration_warn(bench->result, "%s is left out: its history is not told apart by instance",
                             policy->metrics[m].name);
    }
    bench->policy.metrics = bench->metrics;
}

static void add_metric(struct calibration *result, const struct policy_metric *policy)
{
    struct calibration_metric *metric = &result->metrics[result->metric_count++];
    bool latency = policy->type == METRIC_LATENCY;
    const double *wider = latency ? wider_slower : wider_ratio;
    *metric = (struct calibration_metric){.name = mem_strdup(policy->name), .type = policy->type};
    metric->limit = policy->budget * result->false_abort_limit;
    metric->margins = mem_alloc(RUNGS + 1, sizeof *metric->margins);
    metric->margins[metric->margin_count++] = margin_of(policy);
    for (size_t r = 0; r < RUNGS; r++)
        if (wider[r] > margin_of(policy))
            metric->margins[metric->margin_count++] = wider[r];
    metric->rates = mem_alloc(LENGTHS * metric->margin_count, sizeof *metric->rates);
}

static int64_t planned(const struct policy *policy)
{
    int64_t ms = 0;
    for (size_t s = 0; s < policy->step_count && policy->steps[s].weight_bp <= COMPARED_BP; s++)
        ms += policy->steps[s].max_ms;
    return ms;
}

/* Lays rollouts of `rollout_ms`; false: the history is too short for that. */
static bool lay(const struct bench *bench, struct span *span, int64_t rollout_ms)
{
    size_t all = history_looks(span->history), looks = (size_t)(rollout_ms / span->look_ms);
    if (looks == 0 || all < BEFORE_LOOKS + looks)
        return false;
    span->looks = looks;
    span->starts = all - BEFORE_LOOKS - looks + 1;
    span->windows = (all - BEFORE_LOOKS) / looks;
    double pairs = bench->subsets * (double)span->starts;
    span->all = pairs <= (double)bench->setup->runs;
    span->draws = span->all ? (uint64_t)pairs : bench->setup->runs;
    return true;
}

static bool open_span(struct bench *bench, int64_t look_ms, struct error *err)
{
    struct span *span = &bench->spans[bench->span_count];
    span->look_ms = look_ms;
    span->evidence = evidence_coarsen(bench->setup->evidence, look_ms, err);
    if (!span->evidence)
        return false;
    span->history = history_new(span->evidence, &bench->policy, &bench->pool);
    return true;
}

static void close_span(struct span *span)
{
    history_free(span->history);
    evidence_free(span->evidence);
    *span = (struct span){0};
}

static void add_look(struct bench *bench)
{
    const struct span *span = &bench->spans[bench->span_count++];
    struct calibration *result = bench->result;
    result->looks[result->look_count++] =
        (struct calibration_look){span->look_ms, history_looks(span->history), span->draws, span->windows, span->all};
}

static size_t warm_up_looks(const struct policy *policy)
{
    return (size_t)((policy->warmup_ms + policy->look_ms - 1) / policy->look_ms);
}

/* The policy's own look, and how long rollouts are. */
static bool open_first(struct bench *bench, struct error *err)
{
    const struct policy *policy = &bench->policy;
    int64_t look_ms = policy->look_ms;
    if (!open_span(bench, look_ms, err))
        return false;
    size_t all = history_looks(bench->spans[0].history);
    size_t least = BEFORE_LOOKS + warm_up_looks(policy) + LEAST_LOOKS;
    int64_t left_ms = all > BEFORE_LOOKS ? (int64_t)(all - BEFORE_LOOKS) * look_ms : 0;
    int64_t rollout_ms = bench->planned_ms < left_ms ? bench->planned_ms : left_ms;
    if (all < least || !lay(bench, &bench->spans[0], rollout_ms)) {
        char needed[DURATION_TEXT], plan[DURATION_TEXT];
        int64_t whole_ms = bench->planned_ms + BEFORE_LOOKS * look_ms;
        return error_set(err, ERROR_DATA,
                         "the history has %zu looks of stable; at least %zu are needed (%s), and %s for one rollout of "
                         "the policy's length",
                         all, least, duration_format((int64_t)least * look_ms, needed),
                         duration_format(whole_ms, plan));
    }
    bench->result->rollout_ms = (int64_t)bench->spans[0].looks * look_ms;
    bench->result->from_ms = history_at(bench->spans[0].history, 0) - look_ms;
    bench->result->to_ms = history_at(bench->spans[0].history, all - 1);
    add_look(bench);
    return true;
}

/* Longer looks, as far as rollouts of the same length fit in. */
static void open_longer(struct bench *bench)
{
    const struct span *first = &bench->spans[0];
    for (size_t l = 1; l < LENGTHS; l++) {
        struct span *span = &bench->spans[bench->span_count];
        struct error err;
        if (open_span(bench, lengths[l] * first->look_ms, &err) && lay(bench, span, bench->result->rollout_ms)) {
            add_look(bench);
            continue;
        }
        close_span(span);
        char look[DURATION_TEXT], needed[DURATION_TEXT];
        calibration_warn(
            bench->result, "looks of %s are left out: they need a history of %s",
            duration_format(lengths[l] * first->look_ms, look),
            duration_format(bench->result->rollout_ms + BEFORE_LOOKS * lengths[l] * first->look_ms, needed));
    }
}

static void warn_of_history(struct bench *bench)
{
    struct calibration *result = bench->result;
    char plan[DURATION_TEXT], had[DURATION_TEXT];
    if (result->rollout_ms < bench->planned_ms / bench->policy.look_ms * bench->policy.look_ms)
        calibration_warn(result,
                         "a rollout may take %s; the history is enough for %s of it, and later steps are not "
                         "seen",
                         duration_format(bench->planned_ms, plan), duration_format(result->rollout_ms, had));
    enum { FEW_WINDOWS = 10 };
    if (result->looks[0].windows < FEW_WINDOWS)
        calibration_warn(result,
                         "the history holds %llu rollout%s without an overlap: what is rare is hardly seen in "
                         "so few; take a longer history",
                         (unsigned long long)result->looks[0].windows, result->looks[0].windows == 1 ? "" : "s");
    uint32_t largest = 0;
    for (size_t s = 0; s < bench->policy.step_count; s++)
        if (bench->policy.steps[s].weight_bp <= COMPARED_BP)
            largest = bench->policy.steps[s].weight_bp;
    double most = (double)bench->canaries / (double)bench->pool.count;
    if (most * BASIS_POINTS < largest)
        calibration_warn(result,
                         "%zu of %zu instances served about %.3g %% of the requests: at steps above that the "
                         "canary has no more than this",
                         bench->canaries, bench->pool.count, most * 100);
}

static size_t canaries_of(const struct calibrate_setup *setup, size_t instances)
{
    size_t wanted = setup->canaries ? setup->canaries : policy_servers(&setup->policy->traffic, TRACK_CANARY);
    wanted = wanted ? wanted : 1;
    return wanted < instances / 2 ? wanted : instances / 2;
}

static bool prepare(struct bench *bench, struct error *err)
{
    const struct calibrate_setup *setup = bench->setup;
    struct calibration *result = bench->result;
    if (!pool_find(&bench->pool, setup->evidence, setup->policy, err))
        return false;
    take_metrics(bench);
    bench->canaries = canaries_of(setup, bench->pool.count);
    if (setup->canaries > bench->canaries)
        return error_set(err, ERROR_DATA, "%u canaries are more than half of the %zu instances of stable",
                         setup->canaries, bench->pool.count);
    bench->subsets = choose(bench->pool.count, bench->canaries);
    bench->planned_ms = planned(&bench->policy);
    result->instances = bench->pool.count;
    result->canaries = bench->canaries;
    result->planned_ms = bench->planned_ms;
    result->looks = mem_alloc(LENGTHS, sizeof *result->looks);
    if (!open_first(bench, err))
        return false;
    open_longer(bench);
    warn_of_history(bench);
    result->metrics = mem_alloc(bench->policy.metric_count, sizeof *result->metrics);
    for (size_t m = 0; m < bench->policy.metric_count; m++)
        if (bench->metrics[m].budget > 0)
            add_metric(result, &bench->metrics[m]);
    result->margins = mem_alloc(result->metric_count, sizeof *result->margins);
    return result->metric_count > 0 ||
           error_set(err, ERROR_DATA, "no metric that can abort has a history that is told apart by instance");
}

struct calibration *calibrate(const struct calibrate_setup *setup, struct error *err)
{
    assert(setup->runs >= 1 && setup->threads >= 1);
    struct calibration *result = mem_alloc(1, sizeof *result);
    result->service = mem_strdup(setup->policy->service);
    memcpy(result->policy_sha256, setup->policy->sha256, sizeof result->policy_sha256);
    result->seed = setup->seed;
    result->history_looks = BEFORE_LOOKS;
    result->false_abort_limit = setup->policy->false_abort;
    struct bench bench = {.setup = setup, .result = result};
    bool ok = prepare(&bench, err);
    if (ok) {
        run_grid(&bench);
        recommend(&bench);
    }
    for (size_t s = 0; s < LENGTHS; s++)
        close_span(&bench.spans[s]);
    pool_free(&bench.pool);
    free(bench.metrics);
    if (ok)
        return result;
    calibration_free(result);
    return NULL;
}
