/*
 * A port of the arithmetic, step by step, so that verdicts agree also where they hang on the last step of a root
 * finder. Both arms are prepared and sorted in the caller's scratch; ranks are then counted by merging, at each shift
 * that the search tries.
 */
#include "stats/kayenta.h"

#include <assert.h>
#include <float.h>
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort.h>
#include <math.h>
#include <string.h>

static const double judge_confidence = 0.98;
static const double judge_tolerance = 0.25; /* of the estimated shift */
static const double root_tolerance = 1e-4;
enum { ROOT_STEPS = 1001 };

struct kayenta_settings kayenta_defaults(enum kayenta_measure measure)
{
    double even = measure == KAYENTA_CLES ? 0.5 : 1;
    return (struct kayenta_settings){.direction = KAYENTA_EITHER,
                                     .nan_strategy = KAYENTA_NAN_REMOVE,
                                     .outliers = KAYENTA_OUTLIERS_KEEP,
                                     .outlier_factor = 3,
                                     .measure = measure,
                                     .allowed_increase = even,
                                     .allowed_decrease = even,
                                     .critical_increase = even,
                                     .critical_decrease = even};
}

const char *kayenta_class_name(enum kayenta_class class)
{
    static const char *const names[] = {"Pass", "High", "Low", "Nodata", "NodataFailMetric", "Error"};
    return names[class];
}

/* --- the interval --- */

/* z of the shift less the quantile; NAN if everything is tied. */
static double excess(const struct ranks *ranks, double shift, double quantile)
{
    struct ranks_count count = ranks_count(ranks, shift, 0);
    double centred = count.w - (double)ranks->m * (double)ranks->n / 2;
    double sigma = ranks_sigma(ranks->m, ranks->n, count.ties);
    return sigma == 0 ? NAN : (centred - 0.5 * ((centred > 0) - (centred < 0))) / sigma - quantile;
}

struct point {
    double x, f;
};

/*
 * The step from b that interpolation offers: by the secant through two points, by the inverse quadratic through three;
 * half of the bracket if the offer leaves it or is not clearly shorter than the step before the last.
 */
static double interpolated_step(struct point a, struct point b, struct point c, double previous, double tolerance)
{
    double bracket = c.x - b.x, p, q;
    if (a.x == c.x) {
        double t = b.f / a.f;
        p = bracket * t;
        q = 1 - t;
    } else {
        double r = a.f / c.f, s = b.f / c.f, t = b.f / a.f;
        p = t * (bracket * r * (r - s) - (b.x - a.x) * (s - 1));
        q = (r - 1) * (s - 1) * (t - 1);
    }
    if (p > 0)
        q = -q;
    else
        p = -p;
    bool inside = p < 0.75 * bracket * q - fabs(tolerance * q) / 2;
    return inside && p < fabs(previous * q / 2) ? p / q : bracket / 2;
}

/*
 * Brent's search: b is the best place so far, the root lies between b and c, a is the b of before. Where it stops is
 * part of Kayenta's verdict, so it stops exactly as that.
 */
static double root(const struct ranks *ranks, double quantile, struct point a, struct point b)
{
    if (a.f == 0)
        return a.x;
    struct point c = a;
    for (int step_no = 0; step_no < ROOT_STEPS; step_no++) {
        double previous = b.x - a.x;
        if (fabs(c.f) < fabs(b.f)) {
            a = b;
            b = c;
            c = a;
        }
        double tolerance = 2 * DBL_EPSILON * fabs(b.x) + root_tolerance / 2;
        double step = (c.x - b.x) / 2;
        if (isnan(b.f) || fabs(step) <= tolerance || b.f == 0)
            break;
        if (fabs(previous) >= tolerance && fabs(a.f) > fabs(b.f))
            step = interpolated_step(a, b, c, previous, tolerance);
        if (fabs(step) < tolerance)
            step = step > 0 ? tolerance : -tolerance;
        a = b;
        b.x += step;
        b.f = excess(ranks, b.x, quantile);
        if ((b.f > 0 && c.f > 0) || (b.f < 0 && c.f < 0))
            c = a;
    }
    return isnan(b.f) ? NAN : b.x;
}

/* The least and the largest shift of the samples, with z there less the quantile. */
static void ends(const struct ranks *ranks, double quantile, struct point *least, struct point *largest)
{
    least->x = ranks->x[0] - ranks->y[ranks->n - 1];
    least->f = excess(ranks, least->x, quantile);
    largest->x = ranks->x[ranks->m - 1] - ranks->y[0];
    largest->f = excess(ranks, largest->x, quantile);
}

static double limit(const struct ranks *ranks, double quantile)
{
    struct point least, largest;
    ends(ranks, quantile, &least, &largest);
    if (isnan(least.f) || isnan(largest.f))
        return NAN;
    if (least.f <= 0)
        return least.x;
    if (largest.f >= 0)
        return largest.x;
    return root(ranks, quantile, least, largest);
}

static double shift_estimate(const struct ranks *ranks)
{
    struct point least, largest;
    ends(ranks, 0, &least, &largest);
    return isnan(least.f) ? NAN : root(ranks, 0, least, largest);
}

bool kayenta_interval(const struct ranks *ranks, double confidence, struct kayenta_interval *interval)
{
    assert(confidence > 0 && confidence < 1);
    double quantile = gsl_cdf_ugaussian_Qinv((1 - confidence) / 2);
    interval->lower = limit(ranks, quantile);
    interval->upper = limit(ranks, -quantile);
    interval->estimate = shift_estimate(ranks);
    return !isnan(interval->lower) && !isnan(interval->upper) && !isnan(interval->estimate);
}

/* --- one metric --- */

struct arm {
    const double *sorted;
    size_t n;
};

/* R's type 7. The difference form, because it gives back the value exactly where its neighbours are equal. */
static double quantile_of(struct arm arm, double q)
{
    double place = q * (double)(arm.n - 1);
    size_t below = (size_t)place;
    if (below + 1 >= arm.n)
        return arm.sorted[arm.n - 1];
    return arm.sorted[below] + (place - (double)below) * (arm.sorted[below + 1] - arm.sorted[below]);
}

static struct arm without_outliers(struct arm arm, double factor)
{
    assert(factor > 0);
    if (arm.n == 0)
        return arm;
    double first_quartile = quantile_of(arm, 0.25), third_quartile = quantile_of(arm, 0.75);
    double reach = factor * (third_quartile - first_quartile);
    double low = fmin(quantile_of(arm, 0.01), first_quartile - reach);
    double high = fmax(quantile_of(arm, 0.99), third_quartile + reach);
    while (arm.n > 0 && arm.sorted[0] < low) {
        arm.sorted++;
        arm.n--;
    }
    while (arm.n > 0 && arm.sorted[arm.n - 1] > high)
        arm.n--;
    return arm;
}

static struct arm prepare(const double values[], size_t n, const struct kayenta_settings *settings, double copy[])
{
    assert(n <= RANKS_POINTS);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isnan(values[i]))
            copy[kept++] = values[i];
        else if (settings->nan_strategy == KAYENTA_NAN_REPLACE)
            copy[kept++] = 0;
    }
    gsl_sort(copy, 1, kept);
    struct arm arm = {copy, kept};
    return settings->outliers == KAYENTA_OUTLIERS_REMOVE ? without_outliers(arm, settings->outlier_factor) : arm;
}

/* The second pass takes up what the first one's rounding left. */
static double mean(struct arm arm)
{
    double sum = 0, rest = 0;
    for (size_t i = 0; i < arm.n; i++)
        sum += arm.sorted[i];
    double first = sum / (double)arm.n;
    for (size_t i = 0; i < arm.n; i++)
        rest += arm.sorted[i] - first;
    return first + rest / (double)arm.n;
}

static double mean_ratio(struct arm experiment, struct arm control)
{
    double above = mean(experiment), below = mean(control);
    return above == 0 || below == 0 ? NAN : above / below;
}

static bool constant(struct arm arm)
{
    return arm.sorted[0] == arm.sorted[arm.n - 1];
}

static bool identical(struct arm a, struct arm b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (a.sorted[i] != b.sorted[i])
            return false;
    return true;
}

static void missing(const struct kayenta_settings *settings, struct kayenta_result *result)
{
    if (settings->nan_strategy == KAYENTA_NAN_REPLACE)
        return;
    bool fails = settings->must_have_data && !settings->critical;
    result->class = fails ? KAYENTA_NODATA_FAIL_METRIC : KAYENTA_NODATA;
    result->critical = settings->critical;
    result->reason = "missing data";
}

static bool interval_of(const struct ranks *ranks, struct arm experiment, struct arm control,
                        struct kayenta_interval *interval)
{
    if (!isfinite(ranks->x[0] - ranks->y[ranks->n - 1]) || !isfinite(ranks->x[ranks->m - 1] - ranks->y[0]))
        return false;
    if (experiment.n == 1 && control.n == 1)
        return false;
    if (!constant(experiment) || !constant(control))
        return kayenta_interval(ranks, judge_confidence, interval);
    double shift = experiment.sorted[0] - control.sorted[0];
    *interval = (struct kayenta_interval){shift, shift, shift};
    return true;
}

/* An effect that cannot be computed is no excuse. */
static bool at_least(double effect, double threshold)
{
    return isnan(effect) || effect >= threshold;
}

static bool at_most(double effect, double threshold)
{
    return isnan(effect) || effect <= threshold;
}

static void compare(const struct kayenta_settings *settings, struct kayenta_result *result)
{
    double bound = judge_tolerance * fabs(result->interval.estimate), effect = result->effect;
    if (settings->direction != KAYENTA_DECREASE && result->interval.lower > bound &&
        at_least(effect, settings->allowed_increase)) {
        result->class = KAYENTA_HIGH;
        result->critical = settings->critical && at_least(effect, settings->critical_increase);
        result->reason = result->critical ? "classified as High (critical)" : "classified as High";
    } else if (settings->direction != KAYENTA_INCREASE && result->interval.upper < -bound &&
               at_most(effect, settings->allowed_decrease)) {
        result->class = KAYENTA_LOW;
        result->critical = settings->critical && at_most(effect, settings->critical_decrease);
        result->reason = result->critical ? "classified as Low (critical)" : "classified as Low";
    }
}

size_t kayenta_scratch(size_t m, size_t n)
{
    return m + n;
}

void kayenta_classify(const double experiment[], size_t m, const double control[], size_t n,
                      const struct kayenta_settings *settings, double scratch[], struct kayenta_result *result)
{
    struct arm canary = prepare(experiment, m, settings, scratch);
    struct arm baseline = prepare(control, n, settings, scratch + m);
    *result = (struct kayenta_result){.class = KAYENTA_PASS,
                                      .deviation = 1,
                                      .effect = NAN,
                                      .interval = {NAN, NAN, NAN},
                                      .experiment = canary.n,
                                      .control = baseline.n};
    if (canary.n == 0 || baseline.n == 0) {
        missing(settings, result);
        return;
    }
    if (identical(canary, baseline)) {
        result->reason = "both arms have the same points";
        return;
    }
    if (constant(canary) && constant(baseline) && canary.sorted[0] == baseline.sorted[0])
        return;
    struct ranks ranks = {.x = canary.sorted, .y = baseline.sorted, .m = canary.n, .n = baseline.n};
    if (!interval_of(&ranks, canary, baseline, &result->interval)) {
        result->class = KAYENTA_ERROR;
        result->reason = "the interval cannot be computed";
        result->interval = (struct kayenta_interval){NAN, NAN, NAN};
        return;
    }
    result->deviation = mean_ratio(canary, baseline);
    result->effect = result->deviation;
    if (settings->measure == KAYENTA_CLES)
        result->effect = ranks_count(&ranks, 0, 0).w / ((double)canary.n * (double)baseline.n);
    compare(settings, result);
}

/* --- all metrics --- */

static bool is_in(const char *group, const struct kayenta_metric *metric)
{
    for (size_t i = 0; i < metric->n_groups; i++)
        if (strcmp(metric->groups[i], group) == 0)
            return true;
    return false;
}

double kayenta_group_score(const char *group, const struct kayenta_metric metrics[], size_t n)
{
    size_t passed = 0, counted = 0;
    for (size_t i = 0; i < n; i++) {
        if (metrics[i].class == KAYENTA_NODATA || metrics[i].class == KAYENTA_ERROR)
            continue;
        for (size_t k = 0; k < metrics[i].n_groups; k++) {
            bool same = strcmp(metrics[i].groups[k], group) == 0;
            counted += same;
            passed += same && metrics[i].class == KAYENTA_PASS;
        }
    }
    return counted == 0 ? NAN : (double)passed / (double)counted * 100;
}

static const struct kayenta_weight *weight_of(const char *group, const struct kayenta_weight weights[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(weights[i].group, group) == 0)
            return &weights[i];
    return NULL;
}

/* The k-th group of metric i was not named before. */
static bool is_first_mention(const struct kayenta_metric metrics[], size_t i, size_t k)
{
    const struct kayenta_metric so_far = {.groups = metrics[i].groups, .n_groups = k};
    const char *group = metrics[i].groups[k];
    for (size_t earlier = 0; earlier < i; earlier++)
        if (is_in(group, &metrics[earlier]))
            return false;
    return !is_in(group, &so_far);
}

/* As a person rounds the number that is printed: 0.125 and 12.345 are halves. */
static double two_decimals(double value)
{
    double size = fabs(value), hundredths = floor(size * 100);
    if (size >= (hundredths + 0.5) / 100)
        hundredths++;
    return copysign(hundredths / 100, value);
}

static double weighted_sum(const struct kayenta_metric metrics[], size_t n, const struct kayenta_weight weights[],
                           size_t n_weights)
{
    double sum = 0, shared = 0, rest = 100;
    size_t sharing = 0;
    for (size_t i = 0; i < n_weights; i++)
        rest -= weights[i].weight;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < metrics[i].n_groups; k++) {
            if (!is_first_mention(metrics, i, k))
                continue;
            const char *group = metrics[i].groups[k];
            double score = kayenta_group_score(group, metrics, n);
            if (isnan(score))
                score = 100;
            const struct kayenta_weight *own = weight_of(group, weights, n_weights);
            if (own != NULL) {
                sum += score * (own->weight / 100);
            } else {
                shared += score;
                sharing++;
            }
        }
    }
    return sharing == 0 ? sum : sum + shared * (rest / (double)sharing / 100);
}

struct kayenta_score kayenta_score(const struct kayenta_metric metrics[], size_t n,
                                   const struct kayenta_weight weights[], size_t n_weights)
{
    struct kayenta_score result = {.score = 0, .verdict = KAYENTA_SCORED, .culprit = n};
    size_t nodata = 0;
    for (size_t i = n; i-- > 0;) {
        nodata += metrics[i].class == KAYENTA_NODATA;
        if (metrics[i].critical && metrics[i].class != KAYENTA_PASS)
            result.culprit = i;
    }
    if (result.culprit < n)
        result.verdict = KAYENTA_CRITICAL_FAILURE;
    else if (n > 0 && 2 * nodata >= n)
        result.verdict = KAYENTA_TOO_MANY_NODATA;
    else
        result.score = two_decimals(weighted_sum(metrics, n, weights, n_weights));
    return result;
}
