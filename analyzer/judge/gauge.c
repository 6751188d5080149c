/*
 * Gauges. One number a look and arm, the mean over its instances. By method:
 *   paired        each block of looks is one bet on the sign and size of the difference (stats/gauge.h)
 *   mann-whitney  one test at each step's end (at its `min`), whose p-value becomes an e-value; a test a look would not
 *                 keep its level
 *   kayenta       Kayenta's classification and score at each `min` of a step; beside false_abort, as the policy says
 */
#include "analyzer/judge/state.h"

#include "analyzer/model/format.h"
#include "base/memory.h"
#include "stats/logmath.h"
#include "stats/ranks.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RANK_POINTS = 4, GAUGE_ROOM = 4096 };

static bool bets_on(const struct policy_metric *policy, enum gauge_direction direction)
{
    return policy->direction == DIRECTION_EITHER ||
           (policy->direction == DIRECTION_INCREASE) == (direction == GAUGE_INCREASE);
}

bool gauge_is_scored(const struct policy_metric *policy)
{
    return policy->type == METRIC_GAUGE && policy->method == GAUGE_KAYENTA;
}

/* --- calibration: how long stable's noise lasts --- */

void gauge_learn(struct metric_state *metric, const struct track_counts *stable)
{
    struct gauge_state *gauge = &metric->gauge;
    if (gauge->history_width == 0)
        gauge->history_width = stable->count;
    /* A look without those instances is a gap: how long noise lasts is a matter of time. */
    bool same = stable->count == gauge->history_width;
    for (size_t i = 0; i < gauge->history_width; i++) {
        gauge->history = mem_grow(gauge->history, gauge->history_count, &gauge->history_room, sizeof *gauge->history);
        gauge->history[gauge->history_count++] = same ? stable->instances[i].value : NAN;
    }
}

/* One instance against the mean of the others, which is what the canary will be to stable; alone, its own course. */
static struct gauge_blocks block_of_instance(const struct gauge_state *gauge, size_t instance)
{
    size_t width = gauge->history_width, looks = gauge->history_count / width;
    double *differences = mem_alloc(looks, sizeof *differences);
    for (size_t t = 0; t < looks; t++) {
        const double *row = gauge->history + t * width;
        double others = 0;
        for (size_t i = 0; i < width; i++)
            others += i == instance ? 0 : row[i] / (double)(width - 1);
        differences[t] = row[instance] - others;
    }
    struct gauge_blocks blocks = gauge_block(differences, looks);
    free(differences);
    return blocks;
}

static void choose_block(struct gauge_state *gauge)
{
    struct gauge_blocks longest = gauge_block(NULL, 0);
    for (size_t i = 0; i < gauge->history_width; i++) {
        struct gauge_blocks blocks = block_of_instance(gauge, i);
        if (i == 0 || blocks.looks > longest.looks)
            longest = blocks;
    }
    gauge->block = longest.looks;
    gauge->block_unsure = longest.source == GAUGE_UNKNOWN;
    gauge->noise_lasts = longest.autocorrelation >= GAUGE_AUTOCORRELATION;
}

void gauge_freeze(const struct judge *judge, struct metric_state *metric)
{
    if (judge->first_traffic_ms == INT64_MIN)
        return;
    struct gauge_state *gauge = &metric->gauge;
    metric->frozen = true;
    gauge->deviation = NAN;
    gauge->classification = KAYENTA_NODATA;
    if (metric->policy->method != GAUGE_PAIRED)
        return;
    choose_block(gauge);
    for (int d = 0; d < GAUGE_SIDES; d++) {
        struct gauge_side *side = &gauge->sides[d];
        side->past = mem_alloc(GAUGE_ROOM, sizeof *side->past);
        gauge_init(&side->process, side->past, GAUGE_ROOM, gauge->block);
        mixture_init(&side->harm, GAUGE_BETS, RESTART_TAIL, judge->planned_looks);
    }
}

void gauge_free(struct metric_state *metric)
{
    for (int d = 0; d < GAUGE_SIDES; d++)
        free(metric->gauge.sides[d].past);
    for (int t = 0; t < TRACKS; t++)
        free(metric->gauge.values[t]);
    free(metric->gauge.history);
}

void gauge_restart_step(struct metric_state *metric)
{
    metric->gauge.step_from = metric->gauge.count;
    metric->gauge.step_tested = false;
    metric->gauge.classified = false;
}

/* --- bets --- */

static void remember(struct gauge_state *gauge, const struct arms *arms)
{
    if (gauge->count == gauge->room) {
        gauge->room = gauge->room ? 2 * gauge->room : 64;
        for (int t = 0; t < TRACKS; t++)
            gauge->values[t] = mem_resize(gauge->values[t], gauge->room, sizeof *gauge->values[t]);
    }
    for (int t = 0; t < TRACKS; t++)
        gauge->values[t][gauge->count] = arms->mean[t];
    gauge->count++;
}

static void bet_paired(struct metric_state *metric, const struct arms *arms)
{
    const struct policy_metric *policy = metric->policy;
    for (int d = 0; d < GAUGE_SIDES; d++) {
        struct gauge_side *side = &metric->gauge.sides[d];
        double difference = gauge_difference(arms->mean[TRACK_CANARY], arms->mean[TRACK_STABLE],
                                             policy->abort_ratio - 1, policy->abort_absolute, (enum gauge_direction)d);
        double log_e[GAUGE_BETS];
        mixture_look(&side->harm, gauge_look(&side->process, difference, log_e) ? log_e : NULL);
    }
}

/*
 * The e-value of a p-value: the average of the calibrators k p^(k - 1) over k in (0, 1), (1 - p + p ln p)/(p ln^2 p).
 * Source: Vovk & Wang 2021 (Ann. Stat. 49:1736), section 2.
 */
static double log_e_of_p(double p)
{
    p = fmax(p, DBL_MIN);
    double ln = log(p);
    if (ln > -1e-3)
        return log(0.5 - ln / 6); /* the first terms of the series; 1/2 at p = 1 */
    return log((1 - p + p * ln) / (p * ln * ln));
}

/* ln e of one direction: is the canary beyond what stable would be with the allowed harm? */
static double rank_log_e(const struct metric_state *metric, enum gauge_direction direction)
{
    const struct gauge_state *gauge = &metric->gauge;
    const struct policy_metric *policy = metric->policy;
    size_t n = gauge->count - gauge->step_from, m = 0;
    double *work = mem_alloc(2 * n + ranks_scratch(n, n), sizeof *work);
    double *x = work, *y = work + n;
    for (size_t i = gauge->step_from; i < gauge->count; i++) {
        double canary = gauge->values[TRACK_CANARY][i], stable = gauge->values[TRACK_STABLE][i];
        double allowed = (policy->abort_ratio - 1) * fabs(stable) + policy->abort_absolute;
        if (!isfinite(canary) || !isfinite(stable))
            continue;
        x[m] = canary;
        y[m++] = direction == GAUGE_INCREASE ? stable + allowed : stable - allowed;
    }
    struct ranks ranks;
    struct mann_whitney test;
    double log_e = 0;
    if (m >= RANK_POINTS && ranks_sort(&ranks, x, m, y, m, work + 2 * n) &&
        ranks_mann_whitney(&ranks, direction == GAUGE_INCREASE ? RANKS_GREATER : RANKS_LESS, RANKS_USUAL, &test))
        log_e = log_e_of_p(test.p);
    free(work);
    return log_e;
}

/* The average over the directions that the policy names. */
static double average_of_sides(const struct policy_metric *policy, const double log_e[GAUGE_SIDES])
{
    double weights[GAUGE_SIDES];
    for (int d = 0; d < GAUGE_SIDES; d++)
        weights[d] = !bets_on(policy, (enum gauge_direction)d) ? 0 : policy->direction == DIRECTION_EITHER ? 0.5 : 1;
    return log_weighted_average(log_e, weights, GAUGE_SIDES);
}

/* How often the step's `min` went by; 0 where nothing is compared. */
static int64_t times_lasted(const struct judge *judge)
{
    if (judge->step < 0 || !judge_compares(judge))
        return 0;
    int64_t min_ms = judge->policy->steps[judge->step].min_ms;
    min_ms = min_ms > judge->policy->look_ms ? min_ms : judge->policy->look_ms;
    return (judge->at_ms - judge->step_since_ms) / min_ms;
}

/* The present step's looks with a number of both arms. */
static size_t points_of_step(const struct metric_state *metric)
{
    const struct gauge_state *gauge = &metric->gauge;
    bool zero_for_nan = gauge_is_scored(metric->policy) && metric->policy->kayenta.nan_replace;
    size_t points = 0;
    for (size_t i = gauge->step_from; i < gauge->count; i++)
        points +=
            zero_for_nan || (isfinite(gauge->values[TRACK_CANARY][i]) && isfinite(gauge->values[TRACK_STABLE][i]));
    return points;
}

static void test_ranks(struct metric_state *metric)
{
    struct gauge_state *gauge = &metric->gauge;
    if (gauge->step_tested || points_of_step(metric) < RANK_POINTS)
        return;
    gauge->step_tested = true;
    double log_e[GAUGE_SIDES];
    for (int d = 0; d < GAUGE_SIDES; d++)
        log_e[d] = rank_log_e(metric, (enum gauge_direction)d);
    gauge->log_rank_e += average_of_sides(metric->policy, log_e);
}

/* Also after a look that was no evidence itself: the step may be left now. */
void gauges_test(struct judge *judge)
{
    if (times_lasted(judge) < 1)
        return;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct policy_metric *policy = &judge->policy->metrics[m];
        if (policy->type == METRIC_GAUGE && policy->method == GAUGE_MANN_WHITNEY)
            test_ranks(&judge->metrics[m]);
    }
}

void gauge_bet(struct metric_state *metric, const struct arms *arms)
{
    remember(&metric->gauge, arms);
    if (metric->policy->method == GAUGE_PAIRED)
        bet_paired(metric, arms);
}

void gauge_no_bet(struct metric_state *metric)
{
    if (metric->policy->method != GAUGE_PAIRED)
        return;
    for (int d = 0; d < GAUGE_SIDES; d++)
        mixture_look(&metric->gauge.sides[d].harm, NULL);
}

/*
 * Whether no bet is half seen. In the middle of a block, or of a step that is yet to be tested, the data so far tell
 * something of the bet's outcome, and a stop at just that look would be outside of the proof.
 */
bool gauge_is_settled(const struct metric_state *metric)
{
    const struct gauge_state *gauge = &metric->gauge;
    if (metric->policy->method == GAUGE_PAIRED)
        return gauge->sides[GAUGE_INCREASE].process.filled == 0;
    return gauge->step_tested || gauge->count == gauge->step_from;
}

double gauge_harm(const struct metric_state *metric)
{
    if (!metric->frozen || metric->policy->method == GAUGE_KAYENTA)
        return 0;
    if (metric->policy->method == GAUGE_MANN_WHITNEY)
        return metric->gauge.log_rank_e;
    double log_e[GAUGE_SIDES];
    for (int d = 0; d < GAUGE_SIDES; d++)
        log_e[d] = mixture_log_e(&metric->gauge.sides[d].harm);
    return average_of_sides(metric->policy, log_e);
}

/* --- Kayenta --- */

static struct kayenta_settings kayenta_settings_of(const struct policy_metric *policy)
{
    static const enum kayenta_direction directions[] = {[DIRECTION_INCREASE] = KAYENTA_INCREASE,
                                                        [DIRECTION_DECREASE] = KAYENTA_DECREASE,
                                                        [DIRECTION_EITHER] = KAYENTA_EITHER};
    const struct policy_kayenta_metric *k = &policy->kayenta;
    return (struct kayenta_settings){
        .direction = directions[policy->direction],
        .nan_strategy = k->nan_replace ? KAYENTA_NAN_REPLACE : KAYENTA_NAN_REMOVE,
        .must_have_data = k->must_have_data,
        .critical = policy->critical,
        .outliers = k->remove_outliers ? KAYENTA_OUTLIERS_REMOVE : KAYENTA_OUTLIERS_KEEP,
        .outlier_factor = k->outlier_factor,
        .measure = k->cles ? KAYENTA_CLES : KAYENTA_MEAN_RATIO,
        .allowed_increase = k->allowed_increase,
        .allowed_decrease = k->allowed_decrease,
        .critical_increase = k->critical_increase,
        .critical_decrease = k->critical_decrease,
    };
}

static struct kayenta_metric classify(struct metric_state *metric)
{
    struct gauge_state *gauge = &metric->gauge;
    size_t n = gauge->count - gauge->step_from;
    struct kayenta_settings settings = kayenta_settings_of(metric->policy);
    double *scratch = mem_alloc(kayenta_scratch(n, n), sizeof *scratch);
    struct kayenta_result result;
    const double *canary = n ? gauge->values[TRACK_CANARY] + gauge->step_from : NULL;
    const double *stable = n ? gauge->values[TRACK_STABLE] + gauge->step_from : NULL;
    kayenta_classify(canary, n, stable, n, &settings, scratch, &result);
    free(scratch);
    gauge->classified = true;
    gauge->classification = result.class;
    gauge->deviation = result.deviation;
    return (struct kayenta_metric){.groups = (const char *const *)metric->policy->kayenta.groups,
                                   .n_groups = metric->policy->kayenta.group_count,
                                   .class = result.class,
                                   .critical = result.critical};
}

/* A metric that may be ignored without data does not count once it has none. */
static bool counts_in_score(const struct metric_state *metric)
{
    const struct policy_metric *policy = metric->policy;
    if (!gauge_is_scored(policy))
        return false;
    return policy->on_no_data != NO_DATA_IGNORE || policy->kayenta.must_have_data || metric_has_data(metric) ||
           points_of_step(metric) >= RANK_POINTS;
}

/*
 * Silence is no failure, but for a metric that the policy says must have data, and that not before the warm-up is over:
 * a metric without points holds by its `on_no_data`, and the score waits for it.
 */
static bool may_be_scored(const struct judge *judge, const struct metric_state *metric)
{
    bool warm = judge->at_ms >= judge->first_traffic_ms + judge->policy->warmup_ms;
    return points_of_step(metric) >= RANK_POINTS ||
           (metric->policy->kayenta.must_have_data && warm && !metric_has_data(metric));
}

static bool step_may_be_scored(const struct judge *judge)
{
    bool any = false;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        if (!counts_in_score(metric))
            continue;
        if (!may_be_scored(judge, metric))
            return false;
        any = true;
    }
    return any;
}

static double score_of_all(struct judge *judge)
{
    const struct policy *policy = judge->policy;
    struct kayenta_metric *metrics = mem_alloc(policy->metric_count, sizeof *metrics);
    struct kayenta_weight *weights = mem_alloc(policy->kayenta.group_count, sizeof *weights);
    size_t n = 0;
    for (size_t m = 0; m < policy->metric_count; m++)
        if (counts_in_score(&judge->metrics[m]))
            metrics[n++] = classify(&judge->metrics[m]);
    for (size_t g = 0; g < policy->kayenta.group_count; g++)
        weights[g] = (struct kayenta_weight){policy->kayenta.groups[g].name, policy->kayenta.groups[g].weight};
    double score = kayenta_score(metrics, n, weights, policy->kayenta.group_count).score;
    free(metrics);
    free(weights);
    return score;
}

/* The score that ended a rollout stays on view. */
static bool score_is_final(const struct judge *judge)
{
    return judge->aborted && judge->abort_cause == BECAUSE_KAYENTA;
}

void kayenta_restart_step(struct judge *judge)
{
    if (score_is_final(judge))
        return;
    judge->kayenta_score = NAN;
    judge->kayenta_told = 0;
}

void gauges_score(struct judge *judge)
{
    int64_t times = times_lasted(judge);
    if (score_is_final(judge) || times <= judge->kayenta_told || !step_may_be_scored(judge))
        return;
    judge->kayenta_told = times;
    judge->kayenta_score = score_of_all(judge);
    if (judge->aborted || !(judge->kayenta_score < judge->policy->kayenta.marginal))
        return;
    judge->aborted = true;
    judge->abort_cause = BECAUSE_KAYENTA;
    judge->blamed = judge->policy->metric_count;
    size_t suspect;
    judge->harm_at_abort = judge_harm(judge, &suspect);
}

bool gauge_is_proven(const struct judge *judge, const struct metric_state *metric)
{
    return !gauge_is_scored(metric->policy) || judge->kayenta_score >= judge->policy->kayenta.pass;
}

/* --- what it says --- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarize_side(const struct gauge_state *gauge, enum track track, struct arm_summary *arm)
{
    double *sorted = mem_alloc(gauge->count, sizeof *sorted);
    size_t n = 0;
    for (size_t i = 0; i < gauge->count; i++)
        if (isfinite(gauge->values[track][i]))
            sorted[n++] = gauge->values[track][i];
    if (n)
        qsort(sorted, n, sizeof *sorted, by_value);
    arm->present = n > 0;
    arm->samples = n;
    arm->median = n ? 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]) : NAN;
    free(sorted);
}

/* The shift of all looks together; for display, at this look alone. */
static struct effect shift_of(const struct gauge_state *gauge)
{
    struct effect effect = {.kind = "shift",
                            .method = "hodges-lehmann",
                            .estimate = NAN,
                            .lower = NAN,
                            .upper = NAN,
                            .confidence = 0.95,
                            .at_edge = NAN};
    size_t n[TRACKS] = {0, 0};
    double *work = mem_alloc(2 * gauge->count + ranks_scratch(gauge->count, gauge->count), sizeof *work);
    double *side[TRACKS] = {work, work + gauge->count};
    for (int t = 0; t < TRACKS; t++)
        for (size_t i = 0; i < gauge->count; i++)
            if (isfinite(gauge->values[t][i]))
                side[t][n[t]++] = gauge->values[t][i];
    struct ranks ranks;
    struct hodges_lehmann shift;
    if (n[0] && n[1] &&
        ranks_sort(&ranks, side[TRACK_CANARY], n[TRACK_CANARY], side[TRACK_STABLE], n[TRACK_STABLE],
                   work + 2 * gauge->count) &&
        ranks_hodges_lehmann(&ranks, effect.confidence, RANKS_USUAL, &shift)) {
        effect.estimate = shift.estimate;
        effect.lower = shift.lower;
        effect.upper = shift.upper;
    }
    free(work);
    return effect;
}

void gauge_summarize(const struct metric_state *state, struct metric_verdict *metric)
{
    const struct gauge_state *gauge = &state->gauge;
    for (int t = 0; t < TRACKS; t++)
        summarize_side(gauge, (enum track)t, &metric->arms[t]);
    metric->effect = shift_of(gauge);
    metric->deviation = NAN;
    if (!gauge->classified)
        return;
    metric->classification = kayenta_class_name(gauge->classification);
    metric->deviation = gauge->deviation;
}

static char *allowed_text(const struct policy_metric *policy)
{
    static const char *const ways[] = {[DIRECTION_INCREASE] = "more than stable",
                                       [DIRECTION_DECREASE] = "less than stable",
                                       [DIRECTION_EITHER] = "away from stable"};
    char share[FORMAT_TEXT], absolute[FORMAT_TEXT];
    format_share(policy->abort_ratio - 1, share);
    if (policy->abort_absolute > 0)
        return mem_printf("%s + %s %s", share, format_number(policy->abort_absolute, absolute),
                          ways[policy->direction]);
    return mem_printf("%s %s", share, ways[policy->direction]);
}

char *gauge_text(const struct judge *judge, const struct metric_state *state, const struct metric_verdict *metric)
{
    char span[FORMAT_TEXT], canary[FORMAT_TEXT], stable[FORMAT_TEXT], count[FORMAT_TEXT];
    if (metric->status == METRIC_NO_DATA || metric->status == METRIC_IGNORED)
        return mem_printf("no data for the last %" PRIu64 " looks: does the query give something for both tracks?",
                          state->looks_without);
    if (!metric->arms[TRACK_CANARY].present || !metric->arms[TRACK_STABLE].present)
        return mem_printf("no comparison yet: warm-up is %s", format_span(judge->policy->warmup_ms, span));
    char *side = mem_printf("%s canary is at %s, stable at %s (medians of %s looks)", judge->service,
                            format_number(metric->arms[TRACK_CANARY].median, canary),
                            format_number(metric->arms[TRACK_STABLE].median, stable),
                            format_count(metric->arms[TRACK_CANARY].samples, count));
    char *text;
    if (metric->classification) {
        text = mem_printf("%s; by Kayenta's rules: %s", side, metric->classification);
    } else {
        char *allowed = allowed_text(state->policy);
        text =
            mem_printf(metric->status == METRIC_HARMED ? "%s; the policy accepts %s" : "%s; no harm beyond %s is shown",
                       side, allowed);
        free(allowed);
    }
    free(side);
    return text;
}
