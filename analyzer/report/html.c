/*
 * One page that can be mailed, archived and printed: no script, nothing from outside, and a content policy that forbids
 * both. It is written as well-formed XML, so that a missing end tag is found by any parser. Colours are told apart by
 * people who do not see red and green alike; nothing is said by colour alone.
 */
#include "analyzer/report/escape.h"
#include "analyzer/report/page.h"
#include "analyzer/report/plots.h"
#include "base/duration.h"
#include "base/memory.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const mood_names[] = {"good", "wait", "bad"};
static const char *const mood_signs[] = {"✓", "‖", "✕"};

static void put_time(struct strbuf *out, int64_t unix_ms)
{
    char iso[TIME_TEXT];
    const char *words = format_time(unix_ms, TEXT);
    int date = (int)strcspn(words, " "); /* a line may break between date and time, and nowhere else */
    strbuf_printf(out, "<time datetime=\"%s\"><span>%.*s</span> <span>%s</span></time>", time_format(unix_ms, iso),
                  date, words, words + date + 1);
}

static void put_fact(struct strbuf *out, const char *name, const char *text)
{
    strbuf_printf(out, "<dt>%s</dt><dd>", name);
    put_html(out, text);
    strbuf_puts(out, "</dd>\n");
}

static void put_head(struct strbuf *out, const struct report *report, const struct story *story)
{
    const char *service = text_or(story->last->service, "a service");
    char *title = mem_printf("%s: %s", story->outcome, service);
    page_open(out, title, NULL);
    free(title);
    strbuf_printf(out, "<header class=\"head %s\">\n<h1><span aria-hidden=\"true\">%s</span> <b>%s</b> ",
                  mood_names[story->mood], mood_signs[story->mood], story->outcome);
    put_html(out, service);
    strbuf_puts(out, "</h1>\n<p class=\"why\">");
    put_html(out, story->why);
    strbuf_puts(out, "</p>\n");
    if (story->also) {
        strbuf_puts(out, "<p>The judge’s last word: ");
        put_html(out, story->also);
        strbuf_puts(out, "</p>\n");
    }
    strbuf_puts(out, "<dl class=\"facts\">\n");
    put_fact(out, "To blame", story->blame);
    put_fact(out, "Traffic now", story->traffic);
    put_fact(out, "What to do", story->next);
    strbuf_puts(out, "</dl>\n<p class=\"soft\">");
    const char *look = look_words(story, TEXT);
    strbuf_printf(out, "%c%s", toupper((unsigned char)*look), look + 1);
    if (story->last->look > 0) {
        strbuf_puts(out, ", ");
        put_time(out, story->last->at_ms);
    }
    if (report->rollout) {
        strbuf_puts(out, ", rollout ");
        put_html(out, report->rollout->id);
    }
    strbuf_puts(out, "</p>\n</header>\n");
}

static void put_warnings(struct strbuf *out, const struct verdict *verdict)
{
    if (verdict->warning_count == 0)
        return;
    strbuf_puts(out, "<section class=\"card warn\"><h2>Warnings</h2>\n<ul>\n");
    for (size_t i = 0; i < verdict->warning_count; i++) {
        strbuf_puts(out, "<li>");
        put_html(out, verdict->warnings[i]);
        strbuf_puts(out, "</li>\n");
    }
    strbuf_puts(out, "</ul>\n</section>\n");
}

static void put_bar(struct strbuf *out, const char *class, double fill, const char *words)
{
    strbuf_puts(out, "<div class=\"bar\" role=\"img\" aria-label=\"");
    put_html(out, words);
    strbuf_printf(out, "\"><i class=\"%s\" style=\"width:%.1f%%\"></i></div>", class, fill * 100);
}

static void put_evidence_bar(struct strbuf *out, const char *name, const char *class, double value, double needed,
                             const char *what)
{
    double fill = evidence_fill(value, needed);
    struct strbuf words = {0};
    strbuf_printf(&words, "%s: %s of %s needed", name, format_evidence(value, TEXT), format_evidence(needed, TEXT));
    char *text = strbuf_take(&words);
    strbuf_printf(out, "<span>%s</span>", name);
    put_bar(out, class, fill, text);
    strbuf_printf(out, "<span class=\"say\">%s of %s <span class=\"soft\">%s</span></span>\n",
                  format_evidence(value, TEXT), format_evidence(needed, TEXT), what);
    free(text);
}

static void put_pill(struct strbuf *out, enum metric_status status)
{
    strbuf_printf(out, "<span class=\"pill %s\">%s</span>", metric_status_names[status], status_words(status));
}

static void put_guardrail(struct strbuf *out, const struct guardrail_verdict *guardrail)
{
    static const char *const signs[] = {"✓", "✕", "?"};
    char *measured = guardrail_text(guardrail);
    bool told = guardrail_speaks(guardrail);
    strbuf_printf(out, "<tr%s><th scope=\"row\">", told ? " class=\"goes-on\"" : "");
    put_html(out, guardrail->name);
    strbuf_printf(out,
                  "</th><td class=\"t\"><span class=\"pill %s\"><span aria-hidden=\"true\">%s</span> %s</span></td>"
                  "<td class=\"t\">",
                  guardrail_status_names[guardrail->status], signs[guardrail->status],
                  guardrail_words(guardrail->status));
    put_html(out, measured);
    strbuf_printf(out, "</td><td class=\"n\">%s</td></tr>\n", guardrail_limit(guardrail, TEXT));
    free(measured);
    if (!told)
        return;
    strbuf_puts(out, "<tr><td colspan=\"4\">");
    put_html(out, guardrail->reason);
    strbuf_puts(out, "</td></tr>\n");
}

static void put_guardrails(struct strbuf *out, const struct verdict *verdict)
{
    if (verdict->guardrail_count == 0)
        return;
    strbuf_puts(out,
                "<h2>Guardrails</h2>\n<section class=\"card\">\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                "aria-label=\"Guardrails\"><table>\n<caption>Absolute limits of the canary; one that fires sends "
                "all traffic back</caption>\n<thead><tr><th scope=\"col\">guardrail</th><th scope=\"col\" "
                "class=\"t\">status</th><th scope=\"col\" class=\"t\">measured</th><th scope=\"col\">limit</th>"
                "</tr></thead>\n<tbody>\n");
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        put_guardrail(out, &verdict->guardrails[g]);
    strbuf_puts(out, "</tbody>\n</table></div>\n</section>\n");
}

static void put_kayenta(struct strbuf *out, const struct verdict *verdict)
{
    char *score = kayenta_text(verdict);
    if (!score)
        return;
    strbuf_puts(out, "<section class=\"card\"><p><b>Kayenta’s score</b> ");
    put_html(out, score);
    strbuf_puts(out, "</p></section>\n");
    free(score);
}

/* What one arm shows in a line: its failures, or its last quantile. */
static void put_arm_brief(struct strbuf *out, const struct metric_verdict *metric, enum track track)
{
    const struct arm_summary *arm = &metric->arms[track];
    strbuf_puts(out, "<td class=\"n wide\">");
    if (!arm->present)
        strbuf_puts(out, "no data");
    else if (metric->type == METRIC_ERRORS)
        strbuf_puts(out, format_share(arm->rate, TEXT));
    else if (metric->type == METRIC_GAUGE)
        strbuf_puts(out, format_number(arm->median, TEXT));
    else if (metric->quantile_count)
        strbuf_printf(out, "p%.6g %s", metric->quantiles[metric->quantile_count - 1] * 100,
                      format_latency(arm->quantiles[metric->quantile_count - 1], TEXT));
    else
        strbuf_printf(out, "%s requests", format_count(arm->requests, TEXT));
    strbuf_puts(out, "</td>");
}

static void put_overview_row(struct strbuf *out, const struct metric_verdict *m)
{
    strbuf_puts(out, "<tr><th scope=\"row\">");
    put_html(out, m->name);
    strbuf_puts(out, "</th><td>");
    put_pill(out, m->status);
    strbuf_puts(out, "</td>");
    put_arm_brief(out, m, TRACK_STABLE);
    put_arm_brief(out, m, TRACK_CANARY);
    strbuf_printf(out, "<td class=\"n\">%s</td>", effect_brief(m, TEXT));
    const struct {
        const char *class;
        bool there;
        double value, needed;
    } bars[] = {{"harm", metric_bets_on_harm(m), m->evidence.harm, m->evidence.harm_needed},
                {"safe", metric_proves_safety(m), m->evidence.safe, m->evidence.safe_needed}};
    for (size_t i = 0; i < 2; i++) {
        double fill = evidence_fill(bars[i].value, bars[i].needed);
        strbuf_puts(out, "<td>");
        if (bars[i].there)
            put_bar(out, bars[i].class, fill, format_share(fill, TEXT));
        else
            strbuf_puts(out, "–");
        strbuf_puts(out, "</td>");
    }
    strbuf_puts(out, "</tr>\n");
}

static void put_overview(struct strbuf *out, const struct verdict *verdict)
{
    if (verdict->metric_count < 2)
        return;
    strbuf_puts(
        out, "<section class=\"card\">\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
             "aria-label=\"All metrics\"><table>\n<caption>All metrics at the last look; bars of evidence fill up to "
             "what decides</caption>\n<thead><tr>");
    static const char *const heads[][2] = {{"metric", ""}, {"status", ""}, {"stable", "wide"}, {"canary", "wide"},
                                           {"effect", ""}, {"harm", "w"},  {"safety", "w"}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        strbuf_printf(out, "<th scope=\"col\" class=\"%s\">%s</th>", heads[i][1], heads[i][0]);
    strbuf_puts(out, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < verdict->metric_count; i++)
        put_overview_row(out, &verdict->metrics[i]);
    strbuf_puts(out, "</tbody>\n</table></div>\n</section>\n");
}

/* One row of the comparison: the same number of both arms. */
static void put_row(struct strbuf *out, const char *name, const char *stable, const char *canary)
{
    strbuf_printf(out, "<tr><th scope=\"row\">%s</th><td class=\"n\">%s</td><td class=\"n\">%s</td></tr>\n", name,
                  stable, canary);
}

static void put_comparison(struct strbuf *out, const struct metric_verdict *m)
{
    const struct arm_summary *stable = &m->arms[TRACK_STABLE], *canary = &m->arms[TRACK_CANARY];
    strbuf_puts(out, "<div class=\"scroll\"><table>\n<caption>All looks that were evidence</caption>\n<thead><tr>"
                     "<th scope=\"col\"></th><th scope=\"col\">stable</th><th scope=\"col\">canary</th></tr></thead>\n"
                     "<tbody>\n");
    bool gauge = m->type == METRIC_GAUGE;
    put_row(out, gauge ? "looks" : "requests",
            stable->present ? format_count(gauge ? stable->samples : stable->requests, TEXT) : "no data",
            canary->present ? format_count(gauge ? canary->samples : canary->requests, TEXT) : "no data");
    if (gauge)
        put_row(out, "median", stable->present ? format_number(stable->median, TEXT) : "–",
                canary->present ? format_number(canary->median, TEXT) : "–");
    if (m->type == METRIC_ERRORS) {
        put_row(out, "failed", stable->present ? format_count(stable->failed, TEXT) : "–",
                canary->present ? format_count(canary->failed, TEXT) : "–");
        put_row(out, "rate", stable->present ? format_share(stable->rate, TEXT) : "–",
                canary->present ? format_share(canary->rate, TEXT) : "–");
    }
    for (size_t q = 0; m->type == METRIC_LATENCY && q < m->quantile_count; q++) {
        struct strbuf name = {0};
        strbuf_printf(&name, "p%.6g", m->quantiles[q] * 100);
        char *text = strbuf_take(&name);
        put_row(out, text, stable->present ? format_latency(stable->quantiles[q], TEXT) : "–",
                canary->present ? format_latency(canary->quantiles[q], TEXT) : "–");
        free(text);
    }
    strbuf_puts(out, "</tbody>\n</table></div>\n");
}

static void put_measured(struct strbuf *out, const struct metric_verdict *m)
{
    char *effect = effect_text(m), *harm = abort_text(m), *safe = metric_proves_safety(m) ? promote_text(m) : NULL;
    char *classification = classification_text(m);
    strbuf_puts(out, "<dl class=\"facts\">\n");
    put_fact(out, m->type == METRIC_GAUGE ? "Canary − stable" : "Canary / stable", effect);
    put_fact(out, "Harm", harm);
    if (safe)
        put_fact(out, "Safe", safe);
    if (classification)
        put_fact(out, "Kayenta", classification);
    strbuf_puts(out, "</dl>\n<div class=\"bars\">\n");
    if (metric_bets_on_harm(m))
        put_evidence_bar(out, "toward harm", "harm", m->evidence.harm, m->evidence.harm_needed, harm_goal(m));
    if (metric_proves_safety(m))
        put_evidence_bar(out, "toward safety", "safe", m->evidence.safe, m->evidence.safe_needed, "to promote");
    strbuf_puts(out, "</div>\n");
    free(effect);
    free(harm);
    free(safe);
    free(classification);
}

enum { PICTURES = 3 };
typedef void plot_fn(struct plots *plots, size_t metric);

static void put_metric(struct plots *plots, size_t index)
{
    struct strbuf *out = plots->out;
    const struct metric_verdict *m = &plots->story->last->metrics[index];
    strbuf_puts(out, "<section class=\"card\">\n<div class=\"title\"><h3>");
    put_html(out, m->name);
    strbuf_puts(out, "</h3> ");
    put_pill(out, m->status);
    strbuf_printf(out, " <span class=\"soft\">%s, %s</span></div>\n", metric_type_names[m->type], role_words(m));
    if (m->reason && *m->reason) {
        strbuf_puts(out, "<p>");
        put_html(out, m->reason);
        strbuf_puts(out, "</p>\n");
    }
    /* Of an odd number of pictures, the first stands beside the numbers. */
    plot_fn *const pictures[] = {m->type == METRIC_LATENCY ? plot_latency : NULL,
                                 m->type == METRIC_GAUGE ? plot_gauge : plot_ratio,
                                 metric_bets_on_harm(m) ? plot_evidence : NULL};
    size_t beside = pictures[0] ? 0 : pictures[2] ? PICTURES : 1;
    strbuf_puts(out, "<div class=\"two\">\n<div>\n");
    put_comparison(out, m);
    strbuf_puts(out, beside < PICTURES ? "" : "</div>\n<div>\n");
    put_measured(out, m);
    strbuf_puts(out, "</div>\n");
    if (beside < PICTURES)
        pictures[beside](plots, index);
    strbuf_puts(out, "</div>\n<div class=\"two\">\n");
    for (size_t i = 0; i < PICTURES; i++)
        if (pictures[i] && i != beside)
            pictures[i](plots, index);
    strbuf_puts(out, "</div>\n</section>\n");
}

static void put_stays(struct strbuf *out, const struct story *story)
{
    if (story->stay_count == 0)
        return;
    strbuf_puts(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Steps\"><table>\n"
                     "<caption>Steps</caption>\n<thead><tr><th scope=\"col\">canary’s share</th>"
                     "<th scope=\"col\" class=\"t\">from</th><th scope=\"col\">for</th><th scope=\"col\">looks</th>"
                     "<th scope=\"col\" class=\"t\">end</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < story->stay_count; i++) {
        const struct stay *stay = &story->stays[i];
        strbuf_printf(out, "<tr><th scope=\"row\">%s</th><td class=\"t\">", format_weight(stay->weight_bp, TEXT));
        put_time(out, stay->from_ms);
        strbuf_printf(out, "</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"t\">%s</td></tr>\n",
                      format_span(stay->to_ms - stay->from_ms, TEXT), format_count(stay->looks, TEXT), stay->end);
    }
    strbuf_puts(out, "</tbody>\n</table></div>\n");
}

static void put_traffic_check(struct strbuf *out, const struct verdict *verdict)
{
    if (isnan(verdict->traffic_expected) || isnan(verdict->traffic_observed))
        return;
    static const char *const words[] = {"not known", "as it should be", "too low", "too high"};
    strbuf_printf(out, "<p>At this step the canary should have had %s of requests and had %s",
                  format_share(verdict->traffic_expected, TEXT), format_share(verdict->traffic_observed, TEXT));
    if (!isnan(verdict->traffic_balancer))
        strbuf_printf(out, ", by the balancer's own counts %s", format_share(verdict->traffic_balancer, TEXT));
    strbuf_printf(out, ": %s.</p>\n", words[verdict->traffic_status]);
}

static void put_traffic(struct plots *plots)
{
    struct strbuf *out = plots->out;
    strbuf_puts(out, "<h2>Traffic</h2>\n<section class=\"card\">\n");
    put_traffic_check(out, plots->story->last);
    strbuf_puts(out, "<div class=\"two\">\n");
    plot_weight(plots);
    plot_requests(plots);
    strbuf_puts(out, "</div>\n");
    put_stays(out, plots->story);
    strbuf_puts(out, "</section>\n");
}

static void put_budget(struct strbuf *out, const struct verdict *v)
{
    if (isnan(v->false_abort_limit))
        return;
    struct strbuf words = {0};
    strbuf_printf(&words, "%s of %s", format_share(v->false_abort_spent, TEXT),
                  format_share(v->false_abort_limit, TEXT));
    char *text = strbuf_take(&words);
    strbuf_printf(
        out,
        "<h2>False alarms</h2>\n<section class=\"card\">\n<p>The policy lets a harmless canary be aborted with a "
        "chance of at most %s over the whole rollout, however often it is looked at. That holds unless one "
        "arm has noise of its own that lasts over many looks; <code>haldane calibrate</code> measures "
        "it.</p>\n<div class=\"bars\">\n",
        format_share(v->false_abort_limit, TEXT));
    strbuf_puts(out, "<span>budget used</span>");
    put_bar(out, "spent", evidence_fill(v->false_abort_spent, v->false_abort_limit), text);
    strbuf_printf(out, "<span class=\"say\">%s</span>\n", text);
    put_evidence_bar(out, "all metrics", "harm", v->harm, v->harm_needed, "to abort");
    put_evidence_bar(out, "early sign", "harm", v->hold, v->harm_needed, "to hold");
    strbuf_printf(
        out,
        "</div>\n<p class=\"soft\">Evidence is log10 of an e-value, which is what a fair bet on it would have "
        "won: 1 is tenfold, 2 a hundredfold. Score %.0f of 100.</p>\n</section>\n",
        isfinite(v->score) ? v->score : 0.0);
    free(text);
}

static void put_audit(struct strbuf *out, const struct report *report)
{
    if (report->audit_count == 0)
        return;
    strbuf_puts(out, "<h2>What happened</h2>\n<section class=\"card\">\n<div class=\"scroll\" tabindex=\"0\" "
                     "role=\"region\" aria-label=\"Audit trail\"><table>\n<caption>Audit trail</caption>\n<thead><tr>"
                     "<th scope=\"col\" class=\"t\">time</th><th scope=\"col\" class=\"t\">who</th>"
                     "<th scope=\"col\" class=\"t\">what</th><th scope=\"col\">canary’s share</th></tr></thead>\n"
                     "<tbody>\n");
    for (size_t i = 0; i < report->audit_count; i++) {
        const struct audit_entry *entry = &report->audit[i];
        strbuf_puts(out, "<tr><th scope=\"row\" class=\"t\">");
        put_time(out, entry->at_ms);
        strbuf_puts(out, "</th><td class=\"t\">");
        put_html(out, entry->actor);
        strbuf_puts(out, "</td><td class=\"t\"><b>");
        put_html(out, entry->event);
        strbuf_puts(out, "</b> ");
        put_html(out, entry->detail);
        strbuf_printf(out, "</td><td class=\"n\">%s</td></tr>\n", format_weight(entry->weight_bp, TEXT));
    }
    strbuf_puts(out, "</tbody>\n</table></div>\n</section>\n");
}

static void put_policy(struct strbuf *out, const struct report *report)
{
    if (!report->policy_source)
        return;
    strbuf_puts(out, "<h2>Policy</h2>\n<section class=\"card\">\n<details><summary>The policy as it was read</summary>"
                     "\n<pre>");
    put_html_lines(out, report->policy_source);
    strbuf_puts(out, "</pre></details>\n</section>\n");
}

static void put_foot(struct strbuf *out, const struct verdict *verdict)
{
    strbuf_puts(out, "</main>\n<footer>\n<p>haldane " HALDANE_VERSION);
    if (verdict->policy_sha256[0]) {
        strbuf_puts(out, " · policy <code>");
        put_html(out, verdict->policy_sha256);
        strbuf_puts(out, "</code>");
    }
    strbuf_puts(out, " · times are UTC</p>\n</footer>\n</body>\n</html>\n");
}

char *report_html(const struct report *report)
{
    struct strbuf out = {0};
    struct story *story = story_tell(report);
    struct plots plots;
    plots_begin(&plots, &out, report, story);
    put_head(&out, report, story);
    put_warnings(&out, story->last);
    bool quiet = guardrails_are_ok(story->last); /* then they need not come first */
    if (!quiet)
        put_guardrails(&out, story->last);
    strbuf_puts(&out, "<h2>Metrics</h2>\n");
    put_kayenta(&out, story->last);
    if (story->last->metric_count == 0)
        strbuf_puts(&out, "<p class=\"empty\">No metric was judged.</p>\n");
    put_overview(&out, story->last);
    for (size_t i = 0; i < story->last->metric_count; i++)
        put_metric(&plots, i);
    if (quiet)
        put_guardrails(&out, story->last);
    put_traffic(&plots);
    put_budget(&out, story->last);
    put_audit(&out, report);
    put_policy(&out, report);
    put_foot(&out, story->last);
    story_free(story);
    return strbuf_take(&out);
}
