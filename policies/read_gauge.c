/*
 * Metrics of `type: gauge`, and what a policy says in Kayenta's words: the settings of one metric and the weights of
 * its groups. Names and defaults are Kayenta's, so that a configuration can be carried over by hand.
 */
#include "policies/read.h"

#include "base/memory.h"
#include "policies/selector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_GROUPS = 20 }; /* of one metric, and of all together */

/* --- a gauge --- */

static void read_margin(struct section *metric, struct policy_metric *m)
{
    static const struct range ratios = {.least = 1, .most = 1000, .why = "it multiplies stable's value"};
    static const struct range absolutes = {.most = HUGE_VAL};
    struct section s;
    if (!section_open_key(&s, metric, "abort_above", NULL))
        return;
    m->abort_ratio = section_number(&s, "ratio", 1.25, &ratios);
    m->abort_absolute = section_number(&s, "absolute", 0, &absolutes);
    section_refuse(&s, "slower", "belongs to `type: latency`; write `ratio` and `absolute` here");
    section_close(&s);
}

static char **read_groups(struct section *s, size_t *group_count)
{
    size_t count;
    struct tree_node **items = section_list(s, "groups", NULL, MOST_GROUPS, &count);
    char **groups = mem_alloc(count, sizeof *groups);
    *group_count = 0;
    for (size_t i = 0; i < count; i++) {
        char *name = text_of(s->reader, items[i], "groups");
        if (!name)
            continue;
        if (!is_plain_name(name))
            problem_add(s->reader->problems, items[i]->mark,
                        "`%s` is no name of a group; write 1 to 63 letters, digits, blanks and ._-", shown(name).text);
        for (size_t j = 0; j < *group_count; j++)
            if (strcmp(groups[j], name) == 0)
                problem_add(s->reader->problems, items[i]->mark, "the group `%s` is listed twice; keep one",
                            shown(name).text);
        groups[(*group_count)++] = name;
    }
    return groups;
}

/* The limits are ratios of means, or with CLES the chance that a value of the canary is above one of stable. */
static void read_effect_size(struct section *s, struct policy_kayenta_metric *k)
{
    static const struct words measures = {.built = {"meanRatio", "cles"}};
    static const struct range rise = {.least = 1, .most = HUGE_VAL, .why = "it is canary's mean divided by stable's"};
    static const struct range fall = {.most = 1, .above = true, .why = "it is canary's mean divided by stable's"};
    static const struct range chance = {.most = 1, .why = "with `measure: cles` it is a probability"};
    k->cles = section_choice(s, "measure", NULL, &measures, 0) == 1;
    const struct range *up = k->cles ? &chance : &rise, *down = k->cles ? &chance : &fall;
    double none = k->cles ? 0.5 : 1; /* neither arm is above the other */
    k->allowed_increase = section_number(s, "allowedIncrease", none, up);
    k->allowed_decrease = section_number(s, "allowedDecrease", none, down);
    k->critical_increase = section_number(s, "criticalIncrease", none, up);
    k->critical_decrease = section_number(s, "criticalDecrease", none, down);
}

static void read_kayenta_metric(struct section *metric, struct policy_metric *m)
{
    static const struct words gaps = {.built = {"remove", "replace"}}, outliers = {.built = {"keep", "remove"}};
    static const struct range factors = {.most = HUGE_VAL, .above = true};
    struct policy_kayenta_metric *k = &m->kayenta;
    struct section s;
    if (!section_open_key(&s, metric, "kayenta", NULL))
        return;
    k->nan_replace = section_choice(&s, "nanStrategy", NULL, &gaps, 0) == 1;
    k->must_have_data = section_bool(&s, "mustHaveData", false);
    k->remove_outliers = section_choice(&s, "outliers", NULL, &outliers, 0) == 1;
    k->outlier_factor = section_number(&s, "outlierFactor", 3, &factors);
    read_effect_size(&s, k);
    k->groups = read_groups(&s, &k->group_count);
    section_refuse(&s, "effectSize",
                   "is no mapping of its own here; write its keys, like `allowedIncrease`, as they are");
    section_close(&s);
    if (section_has(&s, "groups") || !m->name)
        return;
    free(k->groups);
    k->groups = mem_alloc(1, sizeof *k->groups);
    k->groups[k->group_count++] = mem_strdup(m->name);
}

static void refuse_keys_of_counters(struct section *s)
{
    static const char *const errors[] = {"total", "failed"}, *const latency[] = {"histogram", "quantiles"};
    for (size_t i = 0; i < 2; i++) {
        section_refuse(s, errors[i], "belongs to `type: errors`; write `query` here");
        section_refuse(s, latency[i], "belongs to `type: latency`; write `query` here");
    }
    section_refuse(
        s, "promote_below",
        "is not for gauges: they hold and abort, but a promotion is proven by errors and latency; take it out");
}

void read_gauge(struct section *s, struct policy_metric *m)
{
    static const struct words directions = {
        .built = {[DIRECTION_INCREASE] = "increase", [DIRECTION_DECREASE] = "decrease", [DIRECTION_EITHER] = "either"}};
    static const struct words methods = {
        .built = {[GAUGE_PAIRED] = "paired", [GAUGE_MANN_WHITNEY] = "mann-whitney", [GAUGE_KAYENTA] = "kayenta"}};
    m->query = read_promql(s, "query", "write PromQL with $track, like NAME{$track}", query_problem);
    m->direction = (enum direction)section_choice(s, "direction", NULL, &directions, DIRECTION_INCREASE);
    int method = section_choice(s, "method", NULL, &methods, section_has(s, "method") ? -1 : GAUGE_PAIRED);
    refuse_keys_of_counters(s);
    if (method < 0) {
        /* Which of them apply is not known without the method. */
        section_get(s, "abort_above", NULL);
        section_get(s, "kayenta", NULL);
        return;
    }
    m->method = (enum gauge_method)method;
    if (m->method == GAUGE_KAYENTA) {
        read_kayenta_metric(s, m);
        section_refuse(s, "abort_above",
                       "is not for `method: kayenta`, which has limits of its own; write `kayenta: {allowedIncrease: "
                       "1.25}`");
    } else {
        read_margin(s, m);
        section_refuse(s, "kayenta", "is for `method: kayenta`; write that, or take it out");
    }
}

void refuse_gauge_keys(struct section *s)
{
    static const char *const keys[] = {"query", "direction", "method", "kayenta"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        section_refuse(s, keys[i], "belongs to `type: gauge`; take it out");
}

/* --- Kayenta's score --- */

/* The groups of all metrics with the method, each once; the names are borrowed. */
struct groups {
    const char *names[MOST_GROUPS];
    size_t count;
    bool any_metric, too_many;
};

static void add_group(struct groups *all, const char *name)
{
    /* A wrong name is a problem already, and may be of any length. */
    if (!is_plain_name(name))
        return;
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->names[i], name) == 0)
            return;
    all->too_many |= all->count == MOST_GROUPS;
    if (!all->too_many)
        all->names[all->count++] = name;
}

static struct groups find_groups(const struct policy *policy)
{
    struct groups all = {.count = 0};
    for (size_t i = 0; i < policy->metric_count; i++) {
        const struct policy_metric *m = &policy->metrics[i];
        all.any_metric |= m->type == METRIC_GAUGE && m->method == GAUGE_KAYENTA;
        for (size_t g = 0; g < m->kayenta.group_count; g++)
            add_group(&all, m->kayenta.groups[g]);
    }
    return all;
}

/* A weight for nobody, or a group that could never count, would be a slip. */
static void check_weights(const struct section *s, const struct policy_kayenta *k, size_t groups, double sum)
{
    static const double tolerance = 1e-9;
    if (k->group_count == 0 || isnan(sum))
        return;
    if (sum > 100 + tolerance)
        problem_add(s->reader->problems, s->mark, "the weights add up to %g, more than 100; lower them", sum);
    else if (k->group_count < groups && sum > 100 - tolerance)
        problem_add(s->reader->problems, s->mark,
                    "the weights leave nothing for the %zu group%s without one; lower them, or write a weight of 0",
                    groups - k->group_count, groups - k->group_count > 1 ? "s" : "");
    else if (k->group_count == groups && sum < 100 - tolerance)
        problem_add(s->reader->problems, s->mark,
                    "the weights add up to %g, and no group is left for the rest; make them add up to 100", sum);
}

static void read_weights(struct section *kayenta, const struct groups *groups, struct policy_kayenta *k)
{
    static const struct range weights = {.most = 100};
    struct section s;
    if (!section_open_key(&s, kayenta, "groupWeights", NULL))
        return;
    k->groups = mem_alloc(groups->count, sizeof *k->groups);
    double sum = 0;
    for (size_t i = 0; i < groups->count; i++) {
        double weight = section_number(&s, groups->names[i], 0, &weights);
        if (!section_has(&s, groups->names[i]))
            continue;
        k->groups[k->group_count++] = (struct policy_kayenta_group){mem_strdup(groups->names[i]), weight};
        sum += weight;
    }
    section_close(&s);
    check_weights(&s, k, groups->count, sum);
}

void read_kayenta(struct section *top, struct policy *policy)
{
    static const struct range scores = {.most = 100};
    struct policy_kayenta *k = &policy->kayenta;
    struct groups groups = find_groups(policy);
    struct section s;
    if (!groups.any_metric) {
        section_refuse(top, "kayenta", "weighs the metrics with `method: kayenta`, and there is none; take it out");
        return;
    }
    if (groups.too_many)
        problem_add(top->reader->problems, section_mark(top, "metrics"),
                    "the metrics are in more than %d groups; put some together", MOST_GROUPS);
    if (!section_open_key(&s, top, "kayenta", NULL))
        return;
    read_weights(&s, &groups, k);
    k->pass = section_number(&s, "pass", 75, &scores);
    k->marginal = section_number(&s, "marginal", 50, &scores);
    if (k->pass < k->marginal)
        problem_add(top->reader->problems, section_mark(&s, section_has(&s, "pass") ? "pass" : "marginal"),
                    "`pass` (%g) is below `marginal` (%g), under which the rollout is aborted; raise it, or lower that",
                    k->pass, k->marginal);
    section_close(&s);
}
