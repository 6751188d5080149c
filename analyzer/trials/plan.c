/*
 * Three passes: when each step is proven, then, knowing how long the steps before take, when harm is caught, then what
 * the user must be told. A pass asks analyzer/trials/forecast.h for looks and turns them into times and requests.
 */
#include "analyzer/trials/plan.h"

#include "analyzer/judge/margins.h"
#include "analyzer/judge/state.h"
#include "analyzer/model/format.h"
#include "analyzer/trials/forecast.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "stats/plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double plan_times_as_often[PLAN_SIZES] = {1.5, 2, 5};
const double plan_slower[PLAN_SIZES] = {0.1, 0.2, 0.5};

static const struct plan_time never = {-1, NAN, false};

/* What all passes need. */
struct planning {
    const struct policy *policy;
    const struct plan_traffic *traffic;
    struct plan *plan;
    struct judge **judges; /* one per step; NULL where nothing is compared */
};

static const double *sizes_of(enum metric_type type)
{
    return type == METRIC_ERRORS ? plan_times_as_often : plan_slower;
}

static double healthy_size(enum metric_type type)
{
    return type == METRIC_ERRORS ? 1 : 0;
}

static void warn(struct plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(struct plan *plan, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    plan->warnings = mem_grow(plan->warnings, plan->warning_count, &plan->warning_room, sizeof *plan->warnings);
    plan->warnings[plan->warning_count++] = mem_strdup(text);
}

/* --- proofs --- */

static struct plan_time proof_at(const struct policy *policy, const struct plan_traffic *traffic,
                                 const struct judge *judge, size_t metric, size_t step)
{
    struct forecast_look look = forecast_look(policy, traffic, metric, step);
    uint64_t looks = forecast_known(judge, metric) ? forecast_proof(judge, metric, &look) : 0;
    if (looks == 0)
        return never;
    looks += forecast_lost(policy, traffic, metric, step);
    int64_t ms = (int64_t)looks * policy->look_ms;
    return (struct plan_time){ms, (double)looks * look.requests[TRACK_CANARY], ms <= policy->steps[step].max_ms};
}

/* Gauges prove nothing, and a metric that does not decide is not waited for. */
static bool decides_step(const struct planning *p, size_t m)
{
    const struct policy_metric *metric = &p->policy->metrics[m];
    bool counts = metric->type == METRIC_ERRORS || metric->type == METRIC_LATENCY;
    bool silent = metric->on_no_data == NO_DATA_IGNORE && p->traffic->levels[m].at.requests == 0;
    return counts && metric->critical && !silent;
}

static void leave_step(const struct planning *p, size_t s)
{
    struct plan_step *step = &p->plan->steps[s];
    step->left = (struct plan_time){0, 0, false};
    bool any = false;
    for (size_t m = 0; m < p->plan->metric_count; m++) {
        if (!decides_step(p, m))
            continue;
        const struct plan_time *proven = &p->plan->metrics[m].steps[s].proven;
        any = true;
        bool later = proven->ms < 0 || proven->ms > step->left.ms;
        if (step->left.ms < 0 || !later)
            continue;
        step->left = *proven;
        step->slowest = (int32_t)m;
    }
    if (!any)
        step->left = never;
    step->decides = step->left.ms >= 0 && step->left.ms <= step->max_ms;
    if (step->left.ms < 0 || step->left.ms >= step->min_ms)
        return;
    int64_t looks = (step->min_ms + p->policy->look_ms - 1) / p->policy->look_ms;
    step->left = (struct plan_time){looks * p->policy->look_ms, (double)looks * step->canary_a_look, step->decides};
    step->slowest = -1;
}

static void prove_steps(const struct planning *p)
{
    for (size_t s = 0; s < p->plan->step_count; s++) {
        if (!p->judges[s])
            continue;
        for (size_t m = 0; m < p->plan->metric_count; m++)
            p->plan->metrics[m].steps[s].proven =
                decides_step(p, m) ? proof_at(p->policy, p->traffic, p->judges[s], m, s) : never;
        leave_step(p, s);
    }
}

/* --- harm --- */

/* How one metric's bets grow at each step: healthy, and harmed by one size. */
struct growths {
    double (*healthy)[FLIP_BETS];
    double (*harmed)[FLIP_BETS];
    uint64_t lost, looks, left; /* of the step: lost at its begin, in all until `max`, in all until it is left */
    double canary;              /* requests a look */
};

static void grow_steps(const struct planning *p, size_t m, double size, struct growths growths[])
{
    for (size_t s = 0; s < p->plan->step_count; s++) {
        if (!p->judges[s])
            continue;
        struct growths *g = &growths[s];
        struct forecast_look look = forecast_look(p->policy, p->traffic, m, s);
        if (!g->healthy)
            g->healthy = forecast_growth(p->judges[s], m, &look, healthy_size(p->plan->metrics[m].type));
        free(g->harmed);
        g->harmed = forecast_growth(p->judges[s], m, &look, size);
        g->canary = look.requests[TRACK_CANARY];
        g->looks = (uint64_t)(p->plan->steps[s].max_ms / p->policy->look_ms);
        int64_t left_ms = p->plan->steps[s].decides ? p->plan->steps[s].left.ms : p->plan->steps[s].max_ms;
        g->left = (uint64_t)(left_ms / p->policy->look_ms);
        g->lost = forecast_lost(p->policy, p->traffic, m, s);
    }
}

static size_t add_phases(struct plan_phase phases[], size_t count, uint64_t lost, uint64_t looks,
                         double (*growth)[FLIP_BETS])
{
    phases[count++] = (struct plan_phase){lost, NULL};
    phases[count++] = (struct plan_phase){looks > lost ? looks - lost : 0, (const double(*)[FLIP_BETS])growth};
    return count;
}

static double harm_needed(const struct policy *policy, size_t m)
{
    return -log(policy->false_abort) - log(policy->metrics[m].budget);
}

static uint64_t deadline_looks(const struct policy *policy)
{
    enum { MOST_LOOKS = 20000 };
    int64_t looks = policy->deadline_ms / policy->look_ms;
    return looks > MOST_LOOKS ? MOST_LOOKS : (uint64_t)looks;
}

/* Harm that begins with step s, after healthy steps. */
static struct plan_time catch_at(const struct planning *p, size_t m, size_t s, const struct growths growths[],
                                 struct plan_phase phases[])
{
    size_t count = 0;
    uint64_t before = 0;
    for (size_t k = 0; k < s; k++) {
        if (!p->judges[k])
            continue;
        count = add_phases(phases, count, growths[k].lost, growths[k].left, growths[k].healthy);
        before += phases[count - 2].looks + phases[count - 1].looks;
    }
    count = add_phases(phases, count, growths[s].lost, deadline_looks(p->policy), growths[s].harmed);
    uint64_t looks = plan_looks(phases, count, forecast_bets(p->judges[s], m), RESTART_TAIL,
                                p->judges[s]->planned_looks, harm_needed(p->policy, m));
    if (looks <= before)
        return never;
    int64_t ms = (int64_t)(looks - before) * p->policy->look_ms;
    return (struct plan_time){ms, (double)(looks - before) * growths[s].canary, ms <= p->plan->steps[s].max_ms};
}

/* Harm from the first request on, while each compared step lasts its `max`. */
static struct plan_time catch_in_all(const struct planning *p, size_t m, const struct growths growths[],
                                     struct plan_phase phases[])
{
    size_t count = 0, last = 0;
    for (size_t s = 0; s < p->plan->step_count; s++) {
        if (!p->judges[s])
            continue;
        count = add_phases(phases, count, growths[s].lost, growths[s].looks, growths[s].harmed);
        last = s;
    }
    uint64_t looks = count == 0 ? 0
                                : plan_looks(phases, count, forecast_bets(p->judges[last], m), RESTART_TAIL,
                                             p->judges[last]->planned_looks, harm_needed(p->policy, m));
    if (looks == 0)
        return never;
    struct plan_time caught = {(int64_t)looks * p->policy->look_ms, 0, false};
    for (size_t s = 0; s <= last; s++) {
        uint64_t here = p->judges[s] && looks > 0 ? (looks < growths[s].looks ? looks : growths[s].looks) : 0;
        caught.requests += (double)here * growths[s].canary;
        looks -= here;
    }
    caught.in_time = caught.ms <= p->policy->deadline_ms;
    return caught;
}

static void catch_size(const struct planning *p, size_t m, int size, struct growths growths[],
                       struct plan_phase phases[])
{
    struct plan_metric *metric = &p->plan->metrics[m];
    grow_steps(p, m, sizes_of(metric->type)[size], growths);
    for (size_t s = 0; s < p->plan->step_count; s++)
        if (p->judges[s])
            metric->steps[s].caught[size] = catch_at(p, m, s, growths, phases);
    metric->whole[size] = catch_in_all(p, m, growths, phases);
}

static bool bets_on_harm(const struct planning *p, size_t m)
{
    bool any = false;
    for (size_t s = 0; s < p->plan->step_count; s++)
        any |= p->judges[s] && forecast_bets(p->judges[s], m) > 0;
    return any && p->plan->metrics[m].known && p->policy->metrics[m].budget > 0;
}

static void catch_harm(const struct planning *p)
{
    size_t steps = p->plan->step_count;
    struct plan_phase *phases = mem_alloc(2 * steps, sizeof *phases);
    for (size_t m = 0; m < p->plan->metric_count; m++) {
        if (!bets_on_harm(p, m))
            continue;
        struct growths *growths = mem_alloc(steps, sizeof *growths);
        for (int size = 0; size < PLAN_SIZES; size++)
            catch_size(p, m, size, growths, phases);
        for (size_t s = 0; s < steps; s++) {
            free(growths[s].healthy);
            free(growths[s].harmed);
        }
        free(growths);
    }
    free(phases);
}

/* --- what the user must be told --- */

/* The proof of one metric at one step under another policy. */
static struct plan_time proof_under(const struct planning *p, const struct policy *other, size_t m, size_t s)
{
    struct judge *judge = forecast_judge(other, p->traffic, s);
    struct plan_time proven = proof_at(other, p->traffic, judge, m, s);
    judge_free(judge);
    return proven;
}

/* The smallest larger weight that would do, below the next step's; 0: none. */
static uint32_t helping_weight(const struct planning *p, size_t m, size_t s)
{
    static const uint32_t weights[] = {100, 200, 500, 1000, 1500, 2000, 2500, 3000, 4000, 5000};
    struct policy other = *p->policy;
    uint32_t next = s + 1 < other.step_count ? other.steps[s + 1].weight_bp : COMPARED_BP + 1;
    other.steps = mem_alloc(other.step_count, sizeof *other.steps);
    memcpy(other.steps, p->policy->steps, other.step_count * sizeof *other.steps);
    uint32_t found = 0;
    for (size_t w = 0; w < sizeof weights / sizeof weights[0] && !found; w++) {
        if (weights[w] <= p->policy->steps[s].weight_bp || weights[w] >= next)
            continue;
        other.steps[s].weight_bp = weights[w];
        found = proof_under(p, &other, m, s).in_time ? weights[w] : 0;
    }
    free(other.steps);
    return found;
}

/* The smallest wider margin that would do: errors' `absolute`, latency's `slower`; NAN: none. */
static double helping_margin(const struct planning *p, size_t m, size_t s)
{
    static const double absolutes[] = {0.001, 0.002, 0.005, 0.01, 0.02}, tolerances[] = {0.3, 0.4, 0.5, 0.75, 1};
    bool errors = p->policy->metrics[m].type == METRIC_ERRORS;
    const double *ladder = errors ? absolutes : tolerances;
    size_t rungs = errors ? sizeof absolutes / sizeof absolutes[0] : sizeof tolerances / sizeof tolerances[0];
    struct policy other = *p->policy;
    other.metrics = mem_alloc(other.metric_count, sizeof *other.metrics);
    memcpy(other.metrics, p->policy->metrics, other.metric_count * sizeof *other.metrics);
    double *margin = errors ? &other.metrics[m].promote_absolute : &other.metrics[m].promote_slower;
    double now = *margin, found = NAN;
    for (size_t r = 0; r < rungs && isnan(found); r++) {
        *margin = ladder[r];
        if (ladder[r] > now && proof_under(p, &other, m, s).in_time)
            found = ladder[r];
    }
    free(other.metrics);
    return found;
}

/* A time that is easy to read in a policy, a little longer than needed. */
static int64_t round_up(int64_t ms)
{
    int64_t unit = ms > 7200000 ? 1800000 : ms > 600000 ? 300000 : 60000;
    return (ms + ms / 4 + unit - 1) / unit * unit;
}

/* "; this would do: a weight of 15 %, or a max of 1h20m", or that nothing would. */
static char *help_text(const struct planning *p, size_t m, size_t s)
{
    struct strbuf help = {0};
    char text[FORMAT_TEXT];
    bool errors = p->policy->metrics[m].type == METRIC_ERRORS;
    uint32_t weight = helping_weight(p, m, s);
    double margin = helping_margin(p, m, s);
    int64_t proven_ms = p->plan->metrics[m].steps[s].proven.ms, longer_ms = round_up(proven_ms);
    if (weight)
        strbuf_printf(&help, ", or a weight of %s", format_weight(weight, text));
    if (!isnan(margin))
        strbuf_printf(&help, ", or promote_below: {%s: %g%%}", errors ? "absolute" : "slower", margin * 100);
    if (proven_ms >= 0 && longer_ms <= p->policy->deadline_ms)
        strbuf_printf(&help, ", or a max of %s", format_span(longer_ms, text));
    char *list = strbuf_take(&help);
    char *told = *list ? mem_printf("this would do: %s", list + strlen(", or "))
                       : mem_strdup("there is too little traffic for this metric");
    free(list);
    return told;
}

static void warn_unproven(const struct planning *p, size_t m, size_t s)
{
    const struct plan_step *step = &p->plan->steps[s];
    int64_t proven_ms = p->plan->metrics[m].steps[s].proven.ms;
    char weight[FORMAT_TEXT], max[FORMAT_TEXT], takes[FORMAT_TEXT];
    char *help = help_text(p, m, s);
    warn(p->plan, "%s: at %s a healthy canary is not proven within the step's max of %s: it takes %s%s; %s",
         p->plan->metrics[m].name, format_weight(step->weight_bp, weight), format_span(step->max_ms, max),
         proven_ms < 0 ? "for ever" : "about ", proven_ms < 0 ? "" : format_span(proven_ms, takes), help);
    free(help);
}

static void warn_unknown(const struct planning *p, size_t m)
{
    const struct policy_metric *metric = &p->policy->metrics[m];
    if (metric->type != METRIC_ERRORS && metric->type != METRIC_LATENCY)
        warn(p->plan, "%s is a gauge: how soon it tells anything depends on its noise and is not planned",
             metric->name);
    else if (p->traffic->levels[m].at.requests == 0)
        warn(p->plan, "%s: stable had no request; nothing can be proven or caught without traffic", metric->name);
    else
        warn(p->plan, "%s: no bucket boundary lies where stable's latencies are; give the histogram finer buckets",
             metric->name);
}

/* Nats that the best of all tests would have gathered over the whole rollout, were the harm known. */
static double most_information(const struct planning *p, size_t m, double size)
{
    const struct policy_metric *metric = &p->policy->metrics[m];
    double sum = 0, rate = p->plan->metrics[m].rate;
    for (size_t s = 0; s < p->plan->step_count; s++) {
        struct forecast_look look = forecast_look(p->policy, p->traffic, m, s);
        if (p->judges[s])
            sum += (double)(p->plan->steps[s].max_ms / p->policy->look_ms) *
                   plan_lr_growth(look.requests[TRACK_CANARY], look.requests[TRACK_STABLE], fmin(1, rate * size), rate,
                                  metric->abort_ratio, metric->abort_absolute);
    }
    return sum;
}

static void warn_uncaught(const struct planning *p, size_t m)
{
    const struct plan_metric *metric = &p->plan->metrics[m];
    bool errors = metric->type == METRIC_ERRORS;
    char list[64] = "", span[FORMAT_TEXT];
    double smallest = NAN;
    for (int i = 0; i < PLAN_SIZES; i++) {
        if (metric->whole[i].ms >= 0)
            continue;
        size_t used = strlen(list);
        double size = sizes_of(metric->type)[i];
        snprintf(list + used, sizeof list - used, errors ? "%s%g×" : "%s+%g %%", used ? ", " : "",
                 errors ? size : size * 100);
        smallest = isnan(smallest) ? size : smallest;
    }
    if (isnan(smallest))
        return;
    /* A test of level a that finds harm in half of the cases needs KL(1/2, a) nats, whatever it does with the data. */
    double level = p->policy->false_abort, needed = -0.5 * log(4 * level * (1 - level));
    bool hopeless = errors && most_information(p, m, smallest) < needed;
    warn(p->plan, "%s: harm of %s would not be caught in the %s that all compared steps last at the most%s",
         metric->name, list, format_span(p->plan->compared_ms, span),
         hopeless ? "; with this traffic no test could in half of the cases and keep to false_abort" : "");
}

static void warn_restrictions(const struct planning *p, size_t m)
{
    const struct policy_metric *metric = &p->policy->metrics[m];
    const size_t *instances = p->traffic->instances;
    char rate[FORMAT_TEXT];
    if (metric->type == METRIC_ERRORS && metric->abort_absolute > 0 && p->plan->metrics[m].rate > 0.05)
        warn(p->plan,
             "%s: abort_above has an absolute part, which is exact only for rates below 5 %%; stable's is %s, so "
             "nothing is bet on harm. Use a ratio alone",
             metric->name, format_share(p->plan->metrics[m].rate, rate));
    if (instances[TRACK_CANARY] > instances[TRACK_STABLE])
        warn(p->plan, "%s: the canary has more instances than stable (%zu and %zu); then nothing is bet on harm",
             metric->name, instances[TRACK_CANARY], instances[TRACK_STABLE]);
}

static void tell(const struct planning *p)
{
    if (p->policy->exchangeable != EXCHANGEABLE_LOOKS)
        warn(p->plan, "the policy says `exchangeable: %s`; this is the plan for `looks`, which is slower by some looks",
             p->policy->exchangeable == EXCHANGEABLE_PODS ? "pods" : "requests");
    for (size_t m = 0; m < p->plan->metric_count; m++) {
        if (!p->plan->metrics[m].known) {
            warn_unknown(p, m);
            continue;
        }
        for (size_t s = 0; s < p->plan->step_count; s++)
            if (p->judges[s] && decides_step(p, m) && !p->plan->metrics[m].steps[s].proven.in_time)
                warn_unproven(p, m, s);
        warn_restrictions(p, m);
        if (p->policy->metrics[m].critical)
            warn_uncaught(p, m);
    }
}

/* --- the whole --- */

static void add_steps(struct plan *plan, const struct policy *policy)
{
    plan->step_count = policy->step_count;
    plan->steps = mem_alloc(plan->step_count, sizeof *plan->steps);
    for (size_t s = 0; s < plan->step_count; s++) {
        const struct policy_step *from = &policy->steps[s];
        struct plan_step *step = &plan->steps[s];
        *step = (struct plan_step){.weight_bp = from->weight_bp,
                                   .compared = from->weight_bp <= COMPARED_BP,
                                   .pause = from->pause,
                                   .min_ms = from->min_ms,
                                   .max_ms = from->max_ms,
                                   .bake_ms = from->bake_ms,
                                   .slowest = -1,
                                   .left = never};
        step->canary_a_look = plan->rps * (double)policy->look_ms / 1000 * (double)from->weight_bp / BASIS_POINTS;
        step->canary_until_max = step->canary_a_look * (double)(step->max_ms / policy->look_ms);
        step->decides = !step->compared;
        plan->compared_ms += step->compared ? step->max_ms : 0;
        if (!step->compared)
            step->left = (struct plan_time){step->bake_ms, NAN, true};
    }
}

static void add_metrics(struct plan *plan, const struct policy *policy)
{
    plan->metric_count = policy->metric_count;
    plan->metrics = mem_alloc(plan->metric_count, sizeof *plan->metrics);
    for (size_t m = 0; m < plan->metric_count; m++) {
        struct plan_metric *metric = &plan->metrics[m];
        *metric = (struct plan_metric){.name = mem_strdup(policy->metrics[m].name),
                                       .type = policy->metrics[m].type,
                                       .critical = policy->metrics[m].critical,
                                       .rate = NAN,
                                       .steps = mem_alloc(plan->step_count, sizeof *metric->steps)};
        for (int i = 0; i < PLAN_SIZES; i++)
            metric->whole[i] = never;
        for (size_t s = 0; s < plan->step_count; s++)
            metric->steps[s] = (struct plan_metric_step){never, {never, never, never}};
    }
}

static struct plan *empty_plan(const struct policy *policy, const struct plan_traffic *traffic)
{
    struct plan *plan = mem_alloc(1, sizeof *plan);
    plan->service = mem_strdup(policy->service);
    plan->look_ms = policy->look_ms;
    plan->settle_ms = policy->settle_ms;
    for (size_t m = 0; m < policy->metric_count; m++)
        plan->rps = fmax(plan->rps, traffic->levels[m].rps);
    for (int t = 0; t < TRACKS; t++)
        plan->instances[t] = traffic->instances[t];
    add_steps(plan, policy);
    add_metrics(plan, policy);
    return plan;
}

/* What the judge froze; the same at each step. */
static void describe_metrics(const struct planning *p)
{
    for (size_t s = 0; s < p->plan->step_count; s++) {
        for (size_t m = 0; m < p->plan->metric_count && p->judges[s]; m++) {
            struct plan_metric *metric = &p->plan->metrics[m];
            metric->known = forecast_known(p->judges[s], m);
            metric->boundaries = metric->type == METRIC_LATENCY ? p->judges[s]->metrics[m].comparison_count : 0;
            if (metric->known && metric->type == METRIC_ERRORS)
                metric->rate = p->judges[s]->metrics[m].comparisons[0].rate;
        }
    }
}

struct plan *plan_new(const struct policy *policy, const struct plan_traffic *traffic)
{
    struct planning p = {policy, traffic, empty_plan(policy, traffic),
                         mem_alloc(policy->step_count, sizeof(struct judge *))};
    for (size_t s = 0; s < policy->step_count; s++)
        if (p.plan->steps[s].compared)
            p.judges[s] = forecast_judge(policy, traffic, s);
    describe_metrics(&p);
    prove_steps(&p);
    catch_harm(&p);
    tell(&p);
    for (size_t s = 0; s < policy->step_count; s++)
        judge_free(p.judges[s]);
    free(p.judges);
    return p.plan;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    for (size_t m = 0; m < plan->metric_count; m++) {
        free(plan->metrics[m].name);
        free(plan->metrics[m].steps);
    }
    for (size_t w = 0; w < plan->warning_count; w++)
        free(plan->warnings[w]);
    free(plan->metrics);
    free(plan->warnings);
    free(plan->steps);
    free(plan->service);
    free(plan);
}

bool plan_decides(const struct plan *plan)
{
    bool all = true;
    for (size_t s = 0; s < plan->step_count; s++)
        all &= plan->steps[s].decides;
    return all;
}
