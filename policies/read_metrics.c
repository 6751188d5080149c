/* The list `metrics`: what is compared, with which margins, and how the risk of a false abort is shared out. */
#include "policies/read.h"

#include "base/memory.h"
#include "policies/selector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_METRICS = 50 };

static const struct range ratios = {.least = 1, .most = 1000, .why = "it multiplies stable's error rate"};
static const struct range absolutes = {.most = 1, .below = true};
static const struct range slowdowns = {.most = 10};

/* What is known of a metric's `budget` until all metrics are read. */
struct share {
    struct mark at;
    bool given, wrong;
};

bool is_plain_name(const char *text)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._-";
    size_t length = strlen(text);
    return length > 0 && length <= 63 && strspn(text, allowed) == length && !strchr(" ._-", *text);
}

char *read_name(struct section *s, const char *needed)
{
    char *name = section_text(s, "name", needed);
    if (name && !is_plain_name(name))
        problem_add(s->reader->problems, section_mark(s, "name"),
                    "`name` is `%s`; write 1 to 63 letters, digits, blanks and ._-, the first a letter or digit",
                    shown(name).text);
    return name;
}

char *read_promql(struct section *s, const char *key, const char *needed, char *(*problem_of)(const char *text))
{
    const struct tree_node *node = section_get(s, key, needed);
    char *text = node ? text_of(s->reader, node, key) : NULL;
    char *problem = text ? problem_of(text) : NULL;
    if (problem)
        problem_add(s->reader->problems, node->mark, "`%s` %s", key, problem);
    free(problem);
    return text;
}

static void check_name(const struct section *s, const struct policy *policy, const char *name)
{
    for (size_t i = 0; name && i < policy->metric_count; i++)
        if (policy->metrics[i].name && strcmp(policy->metrics[i].name, name) == 0)
            problem_add(s->reader->problems, section_mark(s, "name"),
                        "`%s` is the name of an earlier metric; give each its own", shown(name).text);
}

/* Where a reader should look to mend a margin. */
static struct mark margin_mark(const struct section *metric)
{
    return section_mark(metric, section_has(metric, "promote_below") ? "promote_below" : "abort_above");
}

static void read_error_margin(struct section *metric, const char *key, double *ratio, double *absolute)
{
    struct section s;
    if (!section_open_key(&s, metric, key, NULL)) {
        *ratio = *absolute = NAN;
        return;
    }
    *ratio = section_number(&s, "ratio", *ratio, &ratios);
    *absolute = section_fraction(&s, "absolute", *absolute, &absolutes);
    section_refuse(&s, "slower", "belongs to `type: latency`; write `ratio` and `absolute` here");
    section_close(&s);
}

static void check_error_margins(const struct section *s, const struct policy_metric *m)
{
    bool below = m->promote_ratio < m->abort_ratio || m->promote_absolute < m->abort_absolute;
    bool same = m->promote_ratio == m->abort_ratio && m->promote_absolute == m->abort_absolute;
    if (below || same)
        problem_add(
            s->reader->problems, margin_mark(s),
            "`promote_below` (ratio %g, absolute %g%%) must be wider than `abort_above` (ratio %g, absolute %g%%): "
            "neither smaller, at least one larger; raise it",
            m->promote_ratio, m->promote_absolute * 100, m->abort_ratio, m->abort_absolute * 100);
}

/* SHARE compares the canary's share of the failures; a difference of rates is not to be seen in it. */
static void check_exchangeable(const struct section *s, const struct policy *policy, const struct policy_metric *m)
{
    if (policy->exchangeable == EXCHANGEABLE_PODS && m->abort_absolute > 0)
        problem_add(s->reader->problems, section_mark(s, "abort_above"),
                    "`exchangeable: pods` compares shares, which know no absolute margin; write `absolute: 0%%` or "
                    "`exchangeable: looks`");
}

static void read_errors(struct section *s, const struct policy *policy, struct policy_metric *m)
{
    m->total = read_promql(s, "total", "write the counter of all requests: NAME{$track}", selector_problem);
    m->failed =
        read_promql(s, "failed", "write the counter of failed requests: NAME{code=~\"5..\",$track}", selector_problem);
    m->abort_ratio = 1.1;
    m->promote_ratio = 1.5;
    m->promote_absolute = 0.001;
    read_error_margin(s, "abort_above", &m->abort_ratio, &m->abort_absolute);
    read_error_margin(s, "promote_below", &m->promote_ratio, &m->promote_absolute);
    check_error_margins(s, m);
    check_exchangeable(s, policy, m);
    section_refuse(s, "histogram", "belongs to `type: latency`; write `total` and `failed` here");
    section_refuse(s, "quantiles", "belongs to `type: latency`; take it out");
    if (m->total && m->failed && strcmp(m->total, m->failed) == 0)
        problem_add(
            s->reader->problems, section_mark(s, "failed"),
            "`failed` asks the same as `total`, so that every request would be a failure; select the failed ones");
}

static double read_slower(struct section *metric, const char *key, double otherwise)
{
    static const char why[] = "belongs to `type: errors`; write `slower` here";
    struct section s;
    if (!section_open_key(&s, metric, key, NULL))
        return NAN;
    double slower = section_fraction(&s, "slower", otherwise, &slowdowns);
    section_refuse(&s, "ratio", why);
    section_refuse(&s, "absolute", why);
    section_close(&s);
    return slower;
}

static void use_default_quantiles(struct policy_metric *m)
{
    static const double quantiles[] = {0.5, 0.9, 0.95, 0.99};
    m->quantile_count = sizeof quantiles / sizeof quantiles[0];
    memcpy(m->quantiles, quantiles, sizeof quantiles);
}

static void read_quantiles(struct section *s, struct policy_metric *m)
{
    static const struct range inner = {.most = 1, .above = true, .below = true};
    if (!section_get(s, "quantiles", NULL)) {
        use_default_quantiles(m);
        return;
    }
    size_t count;
    struct tree_node **items = section_list(s, "quantiles", NULL, POLICY_QUANTILES, &count);
    for (size_t i = 0; i < count; i++) {
        double quantile = fraction_of(s->reader, items[i], "quantiles", &inner);
        for (size_t j = 0; j < i; j++)
            if (m->quantiles[j] == quantile)
                problem_add(s->reader->problems, items[i]->mark, "the quantile %g%% is listed twice; keep one",
                            quantile * 100);
        m->quantiles[m->quantile_count++] = quantile;
    }
}

static void read_latency(struct section *s, struct policy_metric *m)
{
    m->histogram = read_promql(s, "histogram", "write the histogram's buckets: NAME_bucket{$track}", selector_problem);
    read_quantiles(s, m);
    m->abort_slower = read_slower(s, "abort_above", 0.05);
    m->promote_slower = read_slower(s, "promote_below", 0.25);
    if (m->promote_slower <= m->abort_slower)
        problem_add(s->reader->problems, margin_mark(s),
                    "`promote_below` (slower %g%%) must be wider than `abort_above` (slower %g%%); raise it",
                    m->promote_slower * 100, m->abort_slower * 100);
    section_refuse(s, "total", "belongs to `type: errors`; write `histogram` here");
    section_refuse(s, "failed", "belongs to `type: errors`; write `histogram` here");
}

static void read_share(struct section *s, struct policy_metric *m, struct share *share)
{
    static const struct range shares = {
        .most = 1, .above = true, .whole = true, .why = "it is a share of `false_abort`"};
    m->critical = section_bool(s, "critical", m->type != METRIC_GAUGE);
    double budget = section_fraction(s, "budget", 0, &shares);
    share->given = section_has(s, "budget");
    share->at = section_mark(s, "budget");
    share->wrong = isnan(budget);
    if (!m->critical && share->given)
        problem_add(s->reader->problems, share->at,
                    "`budget` is for critical metrics, which alone can abort; take it out, or write `critical: true`");
    else if (!share->wrong)
        m->budget = budget;
}

static bool is_kayenta(const struct policy_metric *m)
{
    return m->type == METRIC_GAUGE && m->method == GAUGE_KAYENTA;
}

static bool is_betting(const struct policy_metric *m)
{
    return m->critical && !is_kayenta(m);
}

/* Kayenta's judge bets nothing: a share of the risk would be taken from those that do. */
static void refuse_budget(const struct section *s, struct policy_metric *m, struct share *share)
{
    if (m->critical && share->given)
        problem_add(s->reader->problems, share->at,
                    "`budget` is not for `method: kayenta`, which spends nothing of `false_abort`; take it out");
    share->given = false;
    m->budget = 0;
}

/* The type is not known, so that nothing can be said about these. */
static void pass_typed_keys(struct section *s)
{
    static const char *const keys[] = {"total",         "failed", "histogram", "quantiles", "abort_above",
                                       "promote_below", "query",  "direction", "method",    "kayenta"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        section_get(s, keys[i], NULL);
}

static void read_typed_keys(struct section *s, const struct policy *policy, struct policy_metric *m)
{
    if (m->type == METRIC_ERRORS)
        read_errors(s, policy, m);
    else if (m->type == METRIC_LATENCY)
        read_latency(s, m);
    else
        read_gauge(s, m);
    if (m->type != METRIC_GAUGE)
        refuse_gauge_keys(s);
}

static void read_metric(struct reader *reader, const struct tree_node *node, struct policy *policy, struct share *share)
{
    static const struct words types = {
        .built = {[METRIC_ERRORS] = "errors", [METRIC_LATENCY] = "latency", [METRIC_GAUGE] = "gauge"}};
    static const struct words gaps = {
        .built = {[NO_DATA_HOLD] = "hold", [NO_DATA_ABORT] = "abort", [NO_DATA_IGNORE] = "ignore"}};
    struct policy_metric *m = &policy->metrics[policy->metric_count];
    struct section s;
    share->wrong = true;
    if (!section_open(&s, reader, node, "a metric", node->mark))
        return;
    m->name = read_name(&s, "name it, like `name: errors`");
    check_name(&s, policy, m->name);
    int type = section_choice(&s, "type", "write errors, latency or gauge", &types, -1);
    m->type = type < 0 ? METRIC_ERRORS : (enum metric_type)type;
    read_share(&s, m, share);
    m->on_no_data = (enum no_data)section_choice(&s, "on_no_data", NULL, &gaps, NO_DATA_HOLD);
    if (type < 0)
        pass_typed_keys(&s);
    else
        read_typed_keys(&s, policy, m);
    if (is_kayenta(m))
        refuse_budget(&s, m, share);
    share->wrong |= type < 0;
    section_close(&s);
}

/* A step is left upward on a proof, which errors and latency can give, or on Kayenta's score. */
static void check_provable(struct reader *reader, const struct policy *policy, struct mark at)
{
    size_t critical = 0, provable = 0;
    for (size_t i = 0; i < policy->metric_count; i++) {
        const struct policy_metric *m = &policy->metrics[i];
        if (is_kayenta(m) || (m->critical && m->type != METRIC_GAUGE))
            return;
        critical += m->critical;
        provable += m->type != METRIC_GAUGE;
    }
    if (provable == 0)
        problem_add(reader->problems, at,
                    "no metric is of errors or latency, so that nothing could ever be proven; add `type: errors`");
    else if (critical == 0)
        problem_add(reader->problems, at,
                    "no metric is critical, so that nothing could abort; make one `critical: true`");
    else
        problem_add(reader->problems, at,
                    "no metric of errors or latency is critical, so that nothing could ever be proven; make one "
                    "`critical: true`");
}

/* Splits what the given budgets leave of 1 evenly among the critical metrics without one. */
static void share_out(struct reader *reader, struct policy *policy, const struct share *shares)
{
    static const double tolerance = 1e-9;
    double given = 0;
    size_t without = 0;
    const struct share *last = NULL;
    for (size_t i = 0; i < policy->metric_count; i++) {
        if (!is_betting(&policy->metrics[i]))
            continue;
        given += policy->metrics[i].budget;
        if (shares[i].given)
            last = &shares[i];
        else
            without++;
    }
    if (given > 1 + tolerance)
        problem_add(reader->problems, last->at, "the budgets add up to %g, more than 1; lower them", given);
    else if (without > 0 && given > 1 - tolerance)
        problem_add(reader->problems, last->at,
                    "the budgets leave nothing for the %zu critical metric%s without one; lower them", without,
                    without > 1 ? "s" : "");
    else if (without == 0 && last && given < 1 - tolerance)
        problem_add(reader->problems, last->at,
                    "the budgets add up to %g, and no critical metric is left for the rest; make them add up to 1",
                    given);
    for (size_t i = 0; i < policy->metric_count && without > 0; i++)
        if (is_betting(&policy->metrics[i]) && !shares[i].given)
            policy->metrics[i].budget = (1 - given) / (double)without;
}

void read_metrics(struct section *top, struct policy *policy)
{
    size_t count;
    struct tree_node **items =
        section_list(top, "metrics", "say what to compare; begin with `type: errors`", MOST_METRICS, &count);
    if (!items)
        return;
    policy->metrics = mem_alloc(count, sizeof *policy->metrics);
    struct share shares[MOST_METRICS] = {0};
    bool wrong = false;
    for (size_t i = 0; i < count; i++) {
        read_metric(top->reader, items[i], policy, &shares[i]);
        policy->metric_count++;
        wrong |= shares[i].wrong;
    }
    if (wrong)
        return;
    check_provable(top->reader, policy, section_mark(top, "metrics"));
    share_out(top->reader, policy, shares);
}
