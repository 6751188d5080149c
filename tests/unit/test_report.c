/*
 * A report is read in an incident: it must name the outcome, the reason and the next step whatever the numbers are,
 * show foreign text as text and nothing else, and never be a broken page.
 */
#include "analyzer/report/report.h"
#include "analyzer/report/standing.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LOOKS = 5000, EDGES = 5 };
static const int64_t start_ms = INT64_C(1772331300000);
static const char hostile[] = "<script>alert('x')</script>\"&|`@all\n**b**\x1b[31m\xff\xe2\x80\xae end";

/* Verdicts and what belongs to them, released together. */
struct scene {
    struct verdict *verdicts[LOOKS];
    size_t count;
    struct rollout rollout;
    struct audit_entry audit[2];
    struct report report;
};

static void fill_arm(struct metric_verdict *m, enum track track, uint64_t requests, uint64_t failed)
{
    struct arm_summary *arm = &m->arms[track];
    arm->present = true;
    arm->requests = requests;
    arm->failed = failed;
    arm->rate = m->type == METRIC_ERRORS && requests ? (double)failed / (double)requests : NAN;
    if (m->type != METRIC_LATENCY)
        return;
    arm->buckets = mem_alloc(EDGES, sizeof *arm->buckets);
    arm->buckets[1] = requests - failed;
    arm->buckets[3] = failed;
    arm->quantiles[0] = 0.08;
    arm->quantiles[1] = track == TRACK_CANARY ? 0.7 : 0.5;
}

static void fill_metric(struct metric_verdict *m, const char *name, enum metric_type type)
{
    m->name = mem_strdup(name);
    m->type = type;
    m->critical = true;
    m->budget = 0.5;
    m->status = METRIC_UNDECIDED;
    m->reason = mem_strdup("neither harm nor safety is shown yet");
    m->evidence = (struct evidence_values){0.4, 0.5, -3, 1.602, 1.301};
    m->effect = (struct effect){type == METRIC_ERRORS ? "ratio" : "slower", "lr", 1.4, 0.9, 2.1, 0.95, NAN};
    m->abort_ratio = 1.1;
    m->promote_ratio = 1.5;
    m->promote_absolute = 0.001;
    m->abort_slower = 0.05;
    m->promote_slower = 0.25;
    if (type != METRIC_LATENCY)
        return;
    static const double edges[EDGES] = {0.05, 0.1, 0.5, 1, INFINITY};
    m->edges = mem_alloc(EDGES, sizeof *m->edges);
    memcpy(m->edges, edges, sizeof edges);
    m->edge_count = EDGES;
    m->quantile_count = 2;
    m->quantiles[0] = 0.5;
    m->quantiles[1] = 0.99;
}

static struct verdict *make_verdict(size_t look, size_t metrics)
{
    struct verdict *v = verdict_new();
    v->service = mem_strdup("shop");
    v->look = look;
    v->at_ms = start_ms + (int64_t)look * 15000;
    v->from_ms = v->at_ms - 15000;
    v->weight_bp = 500;
    v->step_since_ms = start_ms;
    v->step_looks = look;
    v->decision = DECISION_HOLD;
    v->reason = mem_strdup("errors is not decided yet");
    v->false_abort_limit = 0.05;
    v->false_abort_spent = 0.001;
    v->harm_needed = 1.301;
    v->metrics = mem_alloc(metrics, sizeof *v->metrics);
    v->metric_count = metrics;
    for (size_t i = 0; i < metrics; i++) {
        char name[32];
        snprintf(name, sizeof name, i < 2 ? (i ? "latency" : "errors") : "metric %zu", i);
        fill_metric(&v->metrics[i], name, i % 2 ? METRIC_LATENCY : METRIC_ERRORS);
        fill_arm(&v->metrics[i], TRACK_STABLE, 1425 * look, 7 * look);
        fill_arm(&v->metrics[i], TRACK_CANARY, 75 * look, look);
    }
    return v;
}

static struct scene *make_scene(size_t looks, size_t metrics)
{
    struct scene *scene = mem_alloc(1, sizeof *scene);
    for (size_t i = 0; i < looks; i++)
        scene->verdicts[i] = make_verdict(i + 1, metrics);
    scene->count = looks;
    snprintf(scene->rollout.id, sizeof scene->rollout.id, "shop-1");
    scene->rollout.service = mem_strdup("shop");
    scene->rollout.weight_bp = 500;
    scene->rollout.begun_ms = start_ms;
    scene->audit[0] = (struct audit_entry){start_ms, "alice", "begun", "canary set to 5 %, read back 5 %", 500};
    scene->audit[1] = (struct audit_entry){start_ms + 60000, "haldane", "held", NULL, 500};
    scene->report = (struct report){.rollout = &scene->rollout,
                                    .verdicts = (const struct verdict *const *)scene->verdicts,
                                    .verdict_count = looks,
                                    .audit = scene->audit,
                                    .audit_count = 2,
                                    .policy_source = "version: 1\nservice: shop\n"};
    return scene;
}

static void free_scene(struct scene *scene)
{
    for (size_t i = 0; i < scene->count; i++)
        verdict_free(scene->verdicts[i]);
    rollout_clear(&scene->rollout);
    free(scene);
}

static struct verdict *last(struct scene *scene)
{
    return scene->verdicts[scene->count - 1];
}

static void set(char **text, const char *value)
{
    free(*text);
    *text = mem_strdup(value);
}

static void make_aborted(struct scene *scene)
{
    struct verdict *v = last(scene);
    v->decision = DECISION_ABORT;
    set(&v->reason, "shop canary fails 3.1× as often as stable");
    v->metrics[0].status = METRIC_HARMED;
    v->metrics[0].evidence.harm = 1.7;
    v->metrics[0].effect.estimate = 3.1;
    v->metrics[0].effect.lower = 2.2;
    v->metrics[0].effect.upper = 4.4;
    scene->rollout.state = ROLLOUT_ABORTED;
    scene->rollout.cause = CAUSE_HARMED;
    scene->rollout.weight_bp = 0;
    scene->rollout.ended_ms = v->at_ms + 4000;
    set(&scene->rollout.reason, v->reason);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is missing", part);
}

static void assert_lacks(const char *text, const char *part)
{
    const char *found = strstr(text, part);
    if (found)
        fail_msg("\"%s\" is there: %.80s", part, found);
}

/* A tag's name, or 0 length if it is a declaration. */
static size_t tag_name(const char *p)
{
    return strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789");
}

/* Every element is closed in order, every attribute quoted, every & begins a known entity. */
static void assert_well_formed(const char *html)
{
    struct {
        const char *name;
        size_t length;
    } open[64];
    size_t depth = 0;
    for (const char *p = html; *p; p++) {
        if (*p == '&')
            assert_true(!strncmp(p, "&amp;", 5) || !strncmp(p, "&lt;", 4) || !strncmp(p, "&gt;", 4) ||
                        !strncmp(p, "&quot;", 6) || !strncmp(p, "&#", 2));
        if (*p != '<' || !strncmp(p, "<!DOCTYPE html>", 15))
            continue;
        bool closes = p[1] == '/';
        const char *name = p + 1 + closes;
        size_t length = tag_name(name);
        assert_true(length > 0);
        const char *end = name + length;
        for (char quote = 0; quote || *end != '>'; end++) {
            assert_true(*end && (quote || *end != '<'));
            if (*end == '"')
                quote = (char)('"' - quote);
        }
        if (closes) {
            assert_true(depth > 0);
            depth--;
            assert_true(open[depth].length == length && !strncmp(open[depth].name, name, length));
        } else if (end[-1] != '/') {
            assert_true(depth < 64);
            open[depth].name = name;
            open[depth++].length = length;
        }
        p = end;
    }
    assert_int_equal(depth, 0);
}

/* In no attribute of the pictures stands anything but a number where a number belongs. */
static void assert_numbers(const char *html)
{
    for (const char *p = strstr(html, "<svg"); p && *p; p = strstr(p + 1, "=\"")) {
        if (*p == '<')
            continue;
        const char *end = strchr(p + 2, '"');
        const char *value = p + 2;
        bool coordinate = p[-1] == 'd' && isspace((unsigned char)p[-2]);
        bool number = !strncmp(p - 2, " x", 2) || !strncmp(p - 2, " y", 2) || !strncmp(p - 2, "cx", 2) ||
                      !strncmp(p - 2, "cy", 2);
        for (; (coordinate || number) && value < end; value++)
            assert_true(strchr(coordinate ? "0123456789.- MLHVhlz" : "0123456789.-", *value) != NULL);
    }
}

static size_t columns(const char *line, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++)
        n += ((unsigned char)line[i] & 0xC0) != 0x80;
    return n;
}

static void assert_narrow(const char *text)
{
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        if (columns(line, length) > 100)
            fail_msg("wider than 100 columns: %.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

static void assert_json(const char *text, size_t looks)
{
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    assert_string_equal(cJSON_GetObjectItem(root, "schema")->valuestring, "haldane.report/1");
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(root, "verdict"), "schema")->valuestring,
                        "haldane.verdict/1");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "history")), looks);
    cJSON_Delete(root);
}

/* All four formats of a report hold what must always hold. */
static void assert_decent(const struct report *report)
{
    char *html = report_html(report), *text = report_text(report);
    char *markdown = report_markdown(report), *json = report_json(report);
    assert_well_formed(html);
    assert_numbers(html);
    assert_has(html, "default-src 'none'; style-src 'unsafe-inline'");
    assert_lacks(html, "<script");
    assert_lacks(html, "http://");
    assert_lacks(html, "https://");
    assert_narrow(text);
    assert_json(json, report->verdict_count);
    const char *const formats[] = {html, text, markdown};
    for (size_t i = 0; i < 3; i++) {
        assert_lacks(formats[i], "nan");
        assert_lacks(formats[i], "inf");
        assert_lacks(formats[i], "(null)");
    }
    free(html);
    free(text);
    free(markdown);
    free(json);
}

static void an_abort_says_what_and_who_and_where(void **state)
{
    (void)state;
    struct scene *scene = make_scene(14, 2);
    make_aborted(scene);
    assert_decent(&scene->report);
    char *html = report_html(&scene->report), *text = report_text(&scene->report);
    char *markdown = report_markdown(&scene->report);
    assert_has(html, "<b>Aborted</b> shop");
    assert_has(text, "ABORTED: shop\n");
    assert_has(markdown, "## Aborted: shop\n");
    const char *const formats[] = {html, text, markdown};
    for (size_t i = 0; i < 3; i++) {
        assert_has(formats[i], "shop canary fails 3.1× as often as stable");
        assert_has(formats[i], "errors: 3.1×");
        assert_has(formats[i], "2.2–4.4×");
        assert_has(formats[i], "All traffic goes to stable");
        assert_has(formats[i], "Keep the new version back");
        assert_has(formats[i], "alice");
    }
    free(html);
    free(text);
    free(markdown);
    free_scene(scene);
}

/* Its canary may still have traffic: of the rollout that took over. It must not read as this one's doing. */
static void a_superseded_rollout_points_to_the_other_one(void **state)
{
    (void)state;
    struct scene *scene = make_scene(14, 2);
    make_aborted(scene);
    scene->rollout.state = ROLLOUT_SUPERSEDED;
    scene->rollout.cause = CAUSE_SUPERSEDED;
    scene->rollout.weight_bp = 500;
    char *text = report_text(&scene->report), *html = report_html(&scene->report);
    assert_has(html, "<b>Superseded</b> shop");
    assert_has(text, "SUPERSEDED: shop\n");
    assert_has(text, "not this rollout's any more; when last read, the balancer gave the canary\n              5 %.");
    assert_lacks(text, "All traffic goes to stable");
    assert_has(text, "haldane list");
    assert_lacks(text, "Keep the new version back");
    free(text);
    free(html);
    free_scene(scene);
}

/* Where the balancer counts for itself, both shares are told. */
static void the_page_tells_the_balancers_own_count(void **state)
{
    (void)state;
    struct scene *scene = make_scene(14, 2);
    struct verdict *v = last(scene);
    v->traffic_expected = 0.05;
    v->traffic_observed = 0.0498;
    v->traffic_balancer = 0.031;
    v->traffic_status = TRAFFIC_LOW;
    char *html = report_html(&scene->report);
    assert_has(html, "and had 4.98 %, by the balancer's own counts 3.1 %: too low.");
    v->traffic_balancer = NAN;
    char *without = report_html(&scene->report);
    assert_has(without, "and had 4.98 %: too low.");
    free(html);
    free(without);
    free_scene(scene);
}

static void a_failed_rollback_never_reads_as_done(void **state)
{
    (void)state;
    struct scene *scene = make_scene(14, 2);
    make_aborted(scene);
    scene->rollout.state = ROLLOUT_ROLLING_BACK;
    scene->rollout.weight_bp = 2500;
    char *text = report_text(&scene->report);
    assert_has(text, "ROLLING BACK: shop");
    assert_has(text, "gave the canary 25 %");
    assert_lacks(text, "All traffic goes to stable");
    free(text);
    free_scene(scene);
}

/* Somebody's decision is the headline; what the judge thought is told beside it. */
static void a_person_has_the_last_word(void **state)
{
    (void)state;
    struct scene *scene = make_scene(14, 2);
    scene->rollout.state = ROLLOUT_ABORTED;
    scene->rollout.cause = CAUSE_PERSON;
    scene->rollout.weight_bp = 0;
    set(&scene->rollout.reason, "alice went back: customers call");
    char *text = report_text(&scene->report);
    assert_has(text, "alice went back: customers call");
    assert_has(text, "errors is not decided yet");
    assert_has(text, "No metric");
    free(text);
    free_scene(scene);
}

/* An abort for want of proof accuses nobody. */
static void an_expiry_is_not_harm(void **state)
{
    (void)state;
    struct scene *scene = make_scene(14, 2);
    scene->report.rollout = NULL;
    last(scene)->decision = DECISION_ABORT;
    char *text = report_text(&scene->report);
    assert_has(text, "No metric");
    assert_has(text, "Harm was not shown");
    free(text);
    free_scene(scene);
}

/* What an expired rollout says to do, with a policy of so long a deadline and a trail that ends with the way back. */
static char *to_do(struct scene *scene, int64_t deadline_ms, struct audit_entry *audit, size_t count)
{
    const struct policy policy = {.deadline_ms = deadline_ms, .settle_ms = 10000};
    scene->rollout.state = ROLLOUT_EXPIRED;
    scene->rollout.cause = CAUSE_EXPIRED;
    scene->rollout.weight_bp = 0;
    scene->report.policy = &policy;
    scene->report.audit = audit;
    scene->report.audit_count = count;
    assert_decent(&scene->report);
    char *text = report_markdown(&scene->report);
    char *line = mem_strdup(strstr(text, "**What to do**"));
    line[strcspn(line, "\n")] = '\0';
    scene->report.policy = NULL;
    free(text);
    return line;
}

static void assert_to_do(struct scene *scene, int64_t deadline_ms, struct audit_entry *audit, size_t count,
                         const char *part, const char *never)
{
    char *line = to_do(scene, deadline_ms, audit, count);
    assert_has(line, part);
    assert_lacks(line, never);
    free(line);
}

/* More traffic helps only where the proof was what took too long. */
static void an_expiry_says_what_ran_out(void **state)
{
    (void)state;
    struct scene *scene = make_scene(14, 2);
    int64_t looked_ms = last(scene)->at_ms;
    struct audit_entry trail[] = {
        {start_ms, "alice", "begun", "5 %: first step", 500},
        {looked_ms + 25000, "haldane", "no metrics", "connection refused", 500},
        {looked_ms + 60000, "haldane", "rolling back", "the lease has run out", 500},
        {looked_ms + 61000, "haldane", "expired", "all traffic is proven to be on stable", 0},
    };
    struct audit_entry calm[] = {trail[0], trail[2], trail[3]};
    assert_to_do(scene, 3600000, calm, 3, "Find out why nobody looked", "more traffic");
    assert_to_do(scene, 3600000, trail, 4, "no look was possible, then begin again: connection refused",
                 "more traffic");
    /* It failed before the last look was folded, so it was tried again and went well. */
    trail[1].at_ms = looked_ms + 9000;
    assert_to_do(scene, 3600000, trail, 4, "Find out why nobody looked", "connection refused");
    assert_to_do(scene, 60000, calm, 3, "a longer deadline", "nobody looked");

    last(scene)->decision = DECISION_ABORT;
    last(scene)->metrics[0].status = METRIC_EXPIRED;
    assert_to_do(scene, 3600000, calm, 3, "Give it more traffic or wider margins", "nobody looked");
    last(scene)->metrics[0].status = METRIC_NO_DATA;
    assert_to_do(scene, 3600000, calm, 3, "why there was no data for errors", "more traffic");

    /* With the evidence the judge's word is gone. */
    last(scene)->decision = DECISION_HOLD;
    scene->rollout.pruned_ms = looked_ms + 1;
    assert_to_do(scene, 3600000, calm, 3, "the reason says what ran out", "nobody looked");
    free_scene(scene);
}

static void without_a_look_there_is_no_time_of_one(void **state)
{
    (void)state;
    struct scene *scene = make_scene(1, 2);
    last(scene)->look = 0;
    last(scene)->at_ms = 0;
    assert_decent(&scene->report);
    char *text = report_text(&scene->report), *markdown = report_markdown(&scene->report);
    char *html = report_html(&scene->report);
    assert_has(text, "no look on record\n");
    assert_lacks(text, "1970");
    assert_lacks(markdown, "1970");
    assert_lacks(html, "1970");
    free(text);
    free(markdown);
    free(html);
    free_scene(scene);
}

/* --- where it stands --- */

enum { LEASE = 18000 };

static struct rollout looked_at(int64_t now_ms)
{
    return (struct rollout){.state = ROLLOUT_STEPPING,
                            .begun_ms = 1000,
                            .step_since_ms = 2000,
                            .last_look_ms = now_ms - 12000,
                            .lease_until_ms = now_ms + LEASE};
}

static struct audit_entry line(int64_t at_ms, const char *event)
{
    return (struct audit_entry){at_ms, (char *)"haldane", (char *)event, (char *)"it says no", 500};
}

static void a_failure_is_trouble_until_a_look_goes_well(void **state)
{
    (void)state;
    const char *const failures[] = {"no metrics", "no balancer"};
    for (size_t i = 0; i < 2; i++) {
        struct rollout rollout = looked_at(100000);
        struct audit_entry audit[] = {line(1000, "begun"), line(115000, failures[i]), line(116000, "held")};
        struct standing standing = standing_of(&rollout, audit, 2, NULL, LEASE, 117000);
        assert_int_equal(standing.trouble, TROUBLE_NO_LOOK);
        assert_ptr_equal(standing.failure, &audit[1]);
        assert_int_equal(standing.tried_ms, 100000);
        assert_false(standing.overdue);
        /* Something was done since. */
        assert_int_equal(standing_of(&rollout, audit, 3, NULL, LEASE, 117000).trouble, TROUBLE_NONE);
        /* A look leaves no line. What failed before it was folded is over, though it was later than the look's end. */
        rollout = looked_at(115500);
        assert_int_equal(standing_of(&rollout, audit, 2, NULL, LEASE, 117000).trouble, TROUBLE_NONE);
        assert_null(standing_of(&rollout, audit, 2, NULL, LEASE, 117000).failure);
        /* How long the lease is may not be known. */
        assert_int_equal(standing_of(&rollout, audit, 2, NULL, 0, 117000).tried_ms, rollout.last_look_ms);
        rollout.state = ROLLOUT_ABORTED;
        assert_null(standing_of(&rollout, audit, 2, NULL, LEASE, 117000).failure);
    }
    struct rollout rollout = looked_at(100000);
    assert_int_equal(standing_of(&rollout, NULL, 0, NULL, LEASE, 100000).trouble, TROUBLE_NONE);
}

/* Looks go on and prove the step; that the balancer does not take the next one is said all the same. */
static void a_step_that_cannot_be_taken_is_trouble(void **state)
{
    (void)state;
    struct rollout rollout = looked_at(100000);
    struct audit_entry audit[] = {line(90000, "refused")};
    struct verdict verdict = {.decision = DECISION_PROMOTE, .at_ms = 88000};
    assert_int_equal(standing_of(&rollout, audit, 1, &verdict, LEASE, 101000).trouble, TROUBLE_NOT_MOVED);
    verdict.decision = DECISION_HOLD;
    assert_int_equal(standing_of(&rollout, audit, 1, &verdict, LEASE, 101000).trouble, TROUBLE_NONE);
    /* What was refused after the last look, a person's promotion say, is no look that failed. */
    audit[0].at_ms = 100500;
    assert_int_equal(standing_of(&rollout, audit, 1, &verdict, LEASE, 101000).trouble, TROUBLE_NOT_MOVED);
    audit[0].at_ms = 90000;
    verdict = (struct verdict){.decision = DECISION_PROMOTE, .at_ms = 1500}; /* of the step before */
    assert_int_equal(standing_of(&rollout, audit, 1, &verdict, LEASE, 101000).trouble, TROUBLE_NONE);
}

static void a_rollback_is_trouble_until_it_is_proven(void **state)
{
    (void)state;
    struct rollout rollout = looked_at(100000);
    rollout.state = ROLLOUT_ROLLING_BACK;
    struct audit_entry audit[] = {line(90000, "no metrics"), line(95000, "rolling back"),
                                  line(96000, "rollback failed")};
    struct standing standing = standing_of(&rollout, audit, 3, NULL, LEASE, 101000);
    assert_int_equal(standing.trouble, TROUBLE_NOT_STABLE);
    assert_ptr_equal(standing.failure, &audit[2]);
    assert_int_equal(standing.tried_ms, 100000); /* each try puts the lease off; only the first one leaves a line */
    assert_false(standing.overdue);
    standing = standing_of(&rollout, audit, 2, NULL, LEASE, 101000);
    assert_int_equal(standing.trouble, TROUBLE_NOT_STABLE);
    assert_null(standing.failure);
    assert_true(standing_of(&rollout, audit, 3, NULL, LEASE, rollout.lease_until_ms).overdue);
    audit[2].event = (char *)"not saved";
    assert_int_equal(standing_of(&rollout, audit, 3, NULL, LEASE, 101000).trouble, TROUBLE_NOT_SAVED);
    rollout.state = ROLLOUT_ABORTED;
    assert_int_equal(standing_of(&rollout, audit, 3, NULL, LEASE, 101000).trouble, TROUBLE_NONE);
}

static void it_is_overdue_from_the_end_of_the_lease_to_its_own(void **state)
{
    (void)state;
    struct rollout rollout = looked_at(100000);
    assert_false(standing_of(&rollout, NULL, 0, NULL, LEASE, 100000 + LEASE - 1).overdue);
    assert_true(standing_of(&rollout, NULL, 0, NULL, LEASE, 100000 + LEASE).overdue);
    rollout.state = ROLLOUT_EXPIRED;
    assert_false(standing_of(&rollout, NULL, 0, NULL, LEASE, 100000 + LEASE).overdue);
}

static void drift_is_told_until_the_next_look(void **state)
{
    (void)state;
    struct rollout rollout = looked_at(100000);
    struct audit_entry audit[] = {line(50000, "drift"), line(90000, "drift"), line(91000, "refused")};
    assert_ptr_equal(standing_of(&rollout, audit, 3, NULL, LEASE, 100000).drift, &audit[1]);
    assert_null(standing_of(&rollout, audit, 1, NULL, LEASE, 100000).drift);
    rollout.last_look_ms = 90001;
    assert_null(standing_of(&rollout, audit, 3, NULL, LEASE, 100000).drift);
}

static void every_state_has_a_story(void **state)
{
    (void)state;
    for (int s = 0; s < ROLLOUT_STATES; s++) {
        for (int cause = CAUSE_NONE; cause <= CAUSE_DRIVER; cause++) {
            struct scene *scene = make_scene(3, 2);
            scene->rollout.state = (enum rollout_state)s;
            scene->rollout.cause = (enum rollout_cause)cause;
            assert_decent(&scene->report);
            free_scene(scene);
        }
    }
    for (int decision = DECISION_PROMOTE; decision <= DECISION_ABORT; decision++) {
        struct scene *scene = make_scene(3, 2);
        scene->report.rollout = NULL;
        last(scene)->decision = (enum decision)decision;
        assert_decent(&scene->report);
        free_scene(scene);
    }
}

static void foreign_text_stays_text(void **state)
{
    (void)state;
    struct scene *scene = make_scene(3, 2);
    struct verdict *v = last(scene);
    set(&v->service, hostile);
    set(&v->reason, hostile);
    set(&v->metrics[0].reason, hostile);
    for (size_t i = 0; i < scene->count; i++)
        set(&scene->verdicts[i]->metrics[0].name, hostile);
    verdict_warn(v, "%s", hostile);
    scene->audit[0].actor = scene->audit[0].event = scene->audit[0].detail = (char *)hostile;
    scene->report.policy_source = hostile;
    snprintf(scene->rollout.id, sizeof scene->rollout.id, "%s", hostile);
    scene->rollout.state = ROLLOUT_HELD;
    set(&scene->rollout.reason, hostile);
    assert_decent(&scene->report);

    char *html = report_html(&scene->report), *text = report_text(&scene->report);
    char *markdown = report_markdown(&scene->report);
    assert_has(html, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;");
    assert_lacks(markdown, "<script");
    assert_lacks(markdown, "**b**");
    assert_lacks(markdown, "@all");
    for (const char *line = strstr(markdown, "\n|"); line; line = strstr(line + 1, "\n|")) {
        size_t bars = 0, length = strcspn(line + 1, "\n") + 1;
        for (size_t i = 1; i < length; i++)
            bars += line[i] == '|' && line[i - 1] != '\\';
        assert_true(bars == 8 || bars == 6 || bars == 5); /* the columns of the three tables, and no more */
    }
    const char *const formats[] = {html, text, markdown};
    for (size_t i = 0; i < 3; i++) {
        assert_lacks(formats[i], "\x1b");
        assert_lacks(formats[i], "\xff");
        assert_lacks(formats[i], "\xe2\x80\xae");
    }
    free(html);
    free(text);
    free(markdown);
    free_scene(scene);
}

static void without_numbers(struct verdict *v)
{
    v->score = v->false_abort_limit = v->false_abort_spent = v->harm = v->hold = v->harm_needed = NAN;
    v->traffic_expected = v->traffic_observed = NAN;
    for (size_t i = 0; i < v->metric_count; i++) {
        struct metric_verdict *m = &v->metrics[i];
        m->status = METRIC_NO_DATA;
        m->budget = m->abort_ratio = m->abort_absolute = m->promote_ratio = m->promote_absolute = NAN;
        m->abort_slower = m->promote_slower = NAN;
        m->effect.estimate = m->effect.lower = m->effect.upper = m->effect.confidence = NAN;
        m->evidence = (struct evidence_values){NAN, NAN, NAN, NAN, NAN};
        for (int t = 0; t < TRACKS; t++) {
            m->arms[t].present = false;
            m->arms[t].rate = m->arms[t].quantiles[0] = m->arms[t].quantiles[1] = NAN;
            free(m->arms[t].buckets);
            m->arms[t].buckets = NULL;
        }
    }
}

static void no_numbers_at_all_is_still_a_report(void **state)
{
    (void)state;
    struct scene *scene = make_scene(3, 2);
    for (size_t i = 0; i < scene->count; i++)
        without_numbers(scene->verdicts[i]);
    assert_decent(&scene->report);
    char *text = report_text(&scene->report);
    assert_has(text, "no data for errors, latency");
    free(text);
    free_scene(scene);
}

static void before_the_first_look(void **state)
{
    (void)state;
    struct scene *scene = make_scene(1, 2);
    struct verdict *v = last(scene);
    v->look = 0;
    v->at_ms = v->from_ms = v->step_since_ms = 0;
    v->step_index = -1;
    set(&v->reason, NULL);
    without_numbers(v);
    assert_decent(&scene->report);
    scene->report.rollout = NULL;
    scene->report.audit_count = 0;
    scene->report.policy_source = NULL;
    assert_decent(&scene->report);
    v->metric_count = 0;
    assert_decent(&scene->report);
    v->metric_count = 2;
    free_scene(scene);
}

static void one_arm_may_be_silent(void **state)
{
    (void)state;
    struct scene *scene = make_scene(5, 2);
    for (size_t i = 0; i < scene->count; i++)
        for (size_t m = 0; m < 2; m++)
            scene->verdicts[i]->metrics[m].arms[TRACK_CANARY].present = false;
    assert_decent(&scene->report);
    free_scene(scene);
}

static void infinite_ends_are_drawn_as_arrows(void **state)
{
    (void)state;
    struct scene *scene = make_scene(10, 2);
    for (size_t i = 0; i < scene->count; i++) {
        struct metric_verdict *m = &scene->verdicts[i]->metrics[0];
        m->effect.lower = 0;
        m->effect.upper = i % 2 ? INFINITY : NAN; /* JSON has no infinity: it comes back as no number */
        m->effect.estimate = i % 3 ? INFINITY : 0;
        m->evidence.harm = i % 2 ? INFINITY : -INFINITY;
        m->evidence.safe = -1e300;
        scene->verdicts[i]->metrics[1].effect.estimate = i % 2 ? 1e300 : 1e-300;
        scene->verdicts[i]->metrics[1].effect.upper = 1e308;
        scene->verdicts[i]->metrics[1].edges[0] = i % 2 ? 0 : -1;
    }
    char *html = report_html(&scene->report);
    assert_well_formed(html);
    assert_numbers(html);
    assert_has(html, "class=\"arrow");
    free(html);
    free_scene(scene);
}

static void one_look_is_drawn(void **state)
{
    (void)state;
    struct scene *scene = make_scene(1, 2);
    assert_decent(&scene->report);
    scene->rollout.state = ROLLOUT_STEPPING;
    char *html = report_html(&scene->report);
    assert_has(html, "<svg");
    free(html);
    free_scene(scene);
}

static void a_long_history_is_thinned(void **state)
{
    (void)state;
    struct scene *scene = make_scene(LOOKS, 1);
    assert_decent(&scene->report);
    char *html = report_html(&scene->report);
    assert_true(strlen(html) < 150000);
    free(html);
    free_scene(scene);
}

static void many_metrics_have_one_picture_each(void **state)
{
    (void)state;
    struct scene *scene = make_scene(30, 20);
    assert_decent(&scene->report);
    char *html = report_html(&scene->report), id[32];
    for (size_t i = 1; i <= 52; i++) { /* 20 ratios, 20 of evidence, 10 of latency, 2 of traffic */
        snprintf(id, sizeof id, "<title id=\"c%zu-t\">", i);
        assert_has(html, id);
        assert_null(strstr(strstr(html, id) + 1, id));
    }
    assert_lacks(html, "c53-t");
    free(html);
    free_scene(scene);
}

static void long_words_are_broken(void **state)
{
    (void)state;
    struct scene *scene = make_scene(3, 1);
    char word[700];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    for (size_t i = 0; i < scene->count; i++)
        set(&scene->verdicts[i]->metrics[0].name, word);
    set(&last(scene)->service, word);
    set(&last(scene)->reason, word);
    scene->audit[0].detail = word;
    assert_decent(&scene->report);
    free_scene(scene);
}

static void equal_input_gives_equal_bytes(void **state)
{
    (void)state;
    char *(*const formats[])(const struct report *) = {report_html, report_text, report_markdown, report_json};
    struct scene *one = make_scene(20, 3), *two = make_scene(20, 3);
    for (size_t i = 0; i < 4; i++) {
        char *first = formats[i](&one->report), *second = formats[i](&two->report);
        assert_string_equal(first, second);
        free(first);
        free(second);
    }
    free_scene(one);
    free_scene(two);
}

/* The bars are read across a room: full only when it is decided, empty for evidence against. */
static void bars_fill_up_to_what_decides(void **state)
{
    (void)state;
    struct scene *scene = make_scene(3, 1);
    last(scene)->metrics[0].evidence = (struct evidence_values){0.801, 0.5, -3, 1.602, 1.301};
    char *html = report_html(&scene->report), *text = report_text(&scene->report);
    assert_has(html, "<i class=\"harm\" style=\"width:50.0%\">");
    assert_has(html, "<i class=\"safe\" style=\"width:0.0%\">");
    assert_has(text, "[###############...............] 0.80 of 1.60");
    assert_has(text, "[..............................] -3.00 of 1.30");
    free(html);
    free(text);
    free_scene(scene);
}

/* --- gauges, guardrails, Kayenta --- */

static void fill_gauge(struct metric_verdict *m, const char *name, bool by_kayenta, double canary)
{
    fill_metric(m, name, METRIC_ERRORS);
    m->type = METRIC_GAUGE;
    m->critical = false;
    free(m->reason);
    m->reason = mem_strdup("the canary is at so and so much");
    m->effect = (struct effect){"shift", "hodges-lehmann", canary - 130e6, -9800, INFINITY, 0.95, NAN};
    m->evidence = (struct evidence_values){0.801, 0.5, 0, 1.602, 1.301};
    m->abort_ratio = by_kayenta ? 0 : 1.25;
    m->abort_absolute = by_kayenta ? 0 : 2000;
    m->classification = by_kayenta ? "High" : NULL;
    m->deviation = by_kayenta ? 1.32 : NAN;
    for (int t = 0; t < TRACKS; t++)
        m->arms[t] = (struct arm_summary){.present = true, .samples = 1234, .median = t ? canary : 130e6};
}

static void add_guardrail(struct verdict *v, const char *name, enum guardrail_kind kind, double value, double limit)
{
    struct guardrail_verdict *guardrail = &v->guardrails[v->guardrail_count++];
    bool rate = kind == GUARDRAIL_RATE;
    *guardrail = (struct guardrail_verdict){mem_strdup(name), kind,           GUARDRAIL_OK, value, limit, 12480, 998,
                                            rate ? 1 : NAN,   rate ? 2 : NAN, NULL};
    guardrail->reason = mem_printf("why of %s", name);
}

/* errors, and a gauge of each kind of method, under three guardrails. */
static struct scene *make_watched(size_t looks)
{
    struct scene *scene = make_scene(looks, 3);
    for (size_t i = 0; i < looks; i++) {
        struct verdict *v = scene->verdicts[i];
        for (size_t m = 1; m < 3; m++) {
            struct metric_verdict *metric = &v->metrics[m];
            for (int t = 0; t < TRACKS; t++)
                free(metric->arms[t].buckets);
            free(metric->edges);
            free(metric->name);
            free(metric->reason);
            *metric = (struct metric_verdict){0};
            fill_gauge(metric, m == 1 ? "memory" : "cpu", m == 2, 130e6 + 1e5 * (double)i);
        }
        v->guardrails = mem_alloc(3, sizeof *v->guardrails);
        add_guardrail(v, "error budget", GUARDRAIL_RATE, 0.04, 0.05);
        add_guardrail(v, "queue", GUARDRAIL_VALUE, 81234.25, 100000);
        add_guardrail(v, "crash", GUARDRAIL_CRASH, 0.004, 0.1);
        v->kayenta_score = 200.0 / 3;
        v->kayenta_pass = 75;
        v->kayenta_marginal = 50;
    }
    return scene;
}

/* Neither the unit nor the direction is known, and nothing is proven: the report must not sound otherwise. */
static void a_gauge_is_told_in_plain_numbers(void **state)
{
    (void)state;
    struct scene *scene = make_watched(30);
    assert_decent(&scene->report);
    char *html = report_html(&scene->report), *text = report_text(&scene->report);
    char *markdown = report_markdown(&scene->report), *json = report_json(&scene->report);
    const char *memory = strstr(text, "  memory: undecided (gauge, never aborts)"),
               *cpu = strstr(text, "  cpu: undecided (gauge, in Kayenta's score)");
    assert_true(memory && cpu && memory < cpu);
    assert_has(memory, "median             130,000,000       132,900,000\n");
    assert_has(memory, "looks                    1,234             1,234\n");
    assert_has(memory, "+2,900,000, +2.23 % of stable (-9,800 or more, 95 % at this look alone)");
    assert_has(memory, "harmed if shifted by more than 25 % of stable + 2,000");
    assert_has(memory, "[###############...............] 0.80 of 1.60 to show harm");
    assert_lacks(memory, "safety");
    assert_lacks(memory, "requests");
    assert_has(cpu, "High, effect size 1.32");
    assert_lacks(cpu, "0.80 of 1.60");
    assert_has(html, "Medians of both sides");
    assert_has(html, "median so far, in millions");
    assert_has(html, ">stable 130<");
    assert_has(html, ">canary 132.9<");
    assert_has(markdown, "| 130,000,000 (1,234 looks) | 132,900,000 (1,234 looks) | +2.23 % | 0.80 of 1.60 | – |");
    assert_has(markdown, "| +2.23 % | – | – |");
    assert_has(json, "\"stable\":130000000,\"canary\":132900000");
    free(html);
    free(text);
    free(markdown);
    free(json);
    free_scene(scene);
}

/* One picture of evidence for errors and one for memory; by Kayenta's method there is none to draw. */
static void a_gauge_has_the_pictures_that_it_can_have(void **state)
{
    (void)state;
    struct scene *scene = make_watched(30);
    char *html = report_html(&scene->report);
    const char *memory = strstr(html, "<h3>memory"), *cpu = strstr(html, "<h3>cpu"), *end = strstr(html, "<h2>Traffic");
    assert_true(memory && cpu && end && memory < cpu && cpu < end);
    const char *evidence = strstr(memory, "<b>Evidence</b>");
    assert_true(evidence && evidence < cpu);
    const char *safety = strstr(memory, "of safety"), *again = strstr(cpu, "<b>Evidence</b>");
    assert_true(!safety && !again);
    free(html);
    free_scene(scene);
}

static void odd_gauges_are_drawn(void **state)
{
    (void)state;
    static const double odd[][2] = {{0, 0},           {-5, 5},      {1e308, -1e308}, {5e-324, 0},      {1e-9, 2e-9},
                                    {1e15, 1e15 + 1}, {NAN, 3},     {NAN, NAN},      {INFINITY, 1},    {0.1, 0.1},
                                    {-1e12, -1e12},   {99999, 1e5}, {1e-3, 9e-2},    {1e9, -INFINITY}, {1e20, 3e20}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct scene *scene = make_watched(3);
        for (size_t v = 0; v < scene->count; v++)
            for (int t = 0; t < TRACKS; t++)
                scene->verdicts[v]->metrics[1].arms[t].median = odd[i][t];
        char *html = report_html(&scene->report), *text = report_text(&scene->report);
        assert_well_formed(html);
        assert_numbers(html);
        assert_narrow(text);
        assert_lacks(html, "nan");
        free(html);
        free(text);
        free_scene(scene);
    }
}

/* Silence and absence look alike to a reader in a hurry, so what watched in vain is not shown as quiet. */
static void guardrails_are_quiet_until_one_is_not_ok(void **state)
{
    (void)state;
    struct scene *scene = make_watched(5);
    char *html = report_html(&scene->report), *text = report_text(&scene->report);
    assert_has(text, "Guardrails: 3, all ok\n");
    assert_lacks(text, "why of");
    assert_true(strstr(html, "<h2>Guardrails") > strstr(html, "<h2>Metrics"));
    assert_has(html, "✓</span> ok");
    assert_has(html, "81,234");
    assert_lacks(html, "why of");
    free(html);
    free(text);
    last(scene)->guardrails[1].status = GUARDRAIL_NO_DATA;
    last(scene)->guardrails[1].value = NAN;
    assert_decent(&scene->report);
    html = report_html(&scene->report);
    text = report_text(&scene->report);
    assert_has(text, "  queue: no data: why of queue\n");
    assert_has(text, "  error budget: ok (4 % of 12,480 requests failed; the limit is 5 %)\n");
    assert_has(text, "  crash: ok (0.4 % of its last requests failed; the limit is 10 %)\n");
    assert_true(strstr(html, "<h2>Guardrails") < strstr(html, "<h2>Metrics"));
    assert_has(html, "?</span> no data");
    free(html);
    free(text);
    last(scene)->guardrails[2].value = 0.2; /* one window of those that it takes */
    text = report_text(&scene->report);
    assert_has(text, "  crash: ok: why of crash\n");
    free(text);
    free_scene(scene);
}

static void a_guardrail_that_fires_is_blamed(void **state)
{
    (void)state;
    struct scene *scene = make_watched(14);
    struct verdict *v = last(scene);
    v->decision = DECISION_ABORT;
    v->guardrails[0].status = GUARDRAIL_FIRING;
    v->guardrails[0].value = 0.08;
    v->metrics[1].status = METRIC_HARMED; /* never aborts, so it is not to blame */
    scene->rollout.state = ROLLOUT_ABORTED;
    scene->rollout.cause = CAUSE_HARMED;
    for (int with_rollout = 1; with_rollout >= 0; with_rollout--) {
        scene->report.rollout = with_rollout ? &scene->rollout : NULL;
        assert_decent(&scene->report);
        char *html = report_html(&scene->report), *text = report_text(&scene->report);
        char *markdown = report_markdown(&scene->report);
        const char *const formats[] = {html, text, markdown};
        for (size_t i = 0; i < 3; i++) {
            assert_has(formats[i], "guardrail error budget: 8");
            assert_has(formats[i], "of 12,480 requests failed, the limit is 5");
            assert_has(formats[i], "why of error budget");
        }
        assert_has(html, "✕</span> firing");
        assert_has(markdown, "| ✕ **firing** |");
        assert_has(text, with_rollout ? "made guardrail error" : "Take the canary out of traffic");
        free(html);
        free(text);
        free(markdown);
    }
    v->guardrails[0].value = 0.03; /* the limit is broken since a minute, after hours of health */
    char *text = report_text(&scene->report);
    assert_has(text, "3 % of 12,480 requests failed (more of late)");
    free(text);
    free_scene(scene);
}

static void kayenta_is_told_in_its_own_words(void **state)
{
    (void)state;
    static const struct {
        double score;
        const char *words;
    } cases[] = {{100, "100 of 100, a pass"}, {75, "75 of 100, a pass"}, {50, "50 of 100, a marginal pass"}};
    struct scene *scene = make_watched(5);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        last(scene)->kayenta_score = cases[i].score;
        assert_decent(&scene->report);
        char *html = report_html(&scene->report), *text = report_text(&scene->report);
        char *markdown = report_markdown(&scene->report);
        assert_has(html, cases[i].words);
        assert_has(text, cases[i].words);
        assert_has(markdown, cases[i].words);
        assert_has(text, "(below 50 fails, from 75 on passes)");
        free(html);
        free(text);
        free(markdown);
    }
    last(scene)->decision = DECISION_ABORT;
    last(scene)->kayenta_score = 49;
    scene->report.rollout = NULL;
    char *text = report_text(&scene->report);
    assert_has(text, "Kayenta's score: 49 of 100, a fail (below 50 fails, from 75 on passes): cpu High");
    free(text);
    free_scene(scene);
}

/* A step waits for nothing that a gauge could prove, but it does wait for Kayenta's score. */
static void only_what_is_waited_for_is_unproven(void **state)
{
    (void)state;
    struct scene *scene = make_watched(5);
    last(scene)->metrics[0].status = METRIC_SAFE;
    char *text = report_text(&scene->report);
    assert_has(text, "Not proven safe yet: cpu.");
    free(text);
    last(scene)->metrics[2].status = METRIC_SAFE;
    text = report_text(&scene->report);
    assert_has(text, "No metric: all are proven safe at this step.");
    free(text);
    free_scene(scene);
}

static void foreign_guardrails_stay_text(void **state)
{
    (void)state;
    struct scene *scene = make_watched(3);
    struct verdict *v = last(scene);
    v->decision = DECISION_ABORT;
    scene->report.rollout = NULL;
    for (size_t g = 0; g < v->guardrail_count; g++) {
        set(&v->guardrails[g].name, hostile);
        set(&v->guardrails[g].reason, g ? hostile : NULL);
        v->guardrails[g].status = GUARDRAIL_FIRING;
        v->guardrails[g].value = NAN;
    }
    assert_decent(&scene->report);
    char *html = report_html(&scene->report), *markdown = report_markdown(&scene->report);
    char *text = report_text(&scene->report);
    const char *const formats[] = {html, text, markdown};
    for (size_t i = 0; i < 3; i++) {
        assert_lacks(formats[i], "\x1b");
        assert_lacks(formats[i], "\xff");
    }
    assert_lacks(markdown, "**b**");
    free(html);
    free(markdown);
    free(text);
    free_scene(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_abort_says_what_and_who_and_where),
        cmocka_unit_test(a_superseded_rollout_points_to_the_other_one),
        cmocka_unit_test(the_page_tells_the_balancers_own_count),
        cmocka_unit_test(a_failed_rollback_never_reads_as_done),
        cmocka_unit_test(a_person_has_the_last_word),
        cmocka_unit_test(an_expiry_is_not_harm),
        cmocka_unit_test(an_expiry_says_what_ran_out),
        cmocka_unit_test(without_a_look_there_is_no_time_of_one),
        cmocka_unit_test(a_failure_is_trouble_until_a_look_goes_well),
        cmocka_unit_test(a_step_that_cannot_be_taken_is_trouble),
        cmocka_unit_test(a_rollback_is_trouble_until_it_is_proven),
        cmocka_unit_test(it_is_overdue_from_the_end_of_the_lease_to_its_own),
        cmocka_unit_test(drift_is_told_until_the_next_look),
        cmocka_unit_test(every_state_has_a_story),
        cmocka_unit_test(foreign_text_stays_text),
        cmocka_unit_test(no_numbers_at_all_is_still_a_report),
        cmocka_unit_test(before_the_first_look),
        cmocka_unit_test(one_arm_may_be_silent),
        cmocka_unit_test(infinite_ends_are_drawn_as_arrows),
        cmocka_unit_test(one_look_is_drawn),
        cmocka_unit_test(a_long_history_is_thinned),
        cmocka_unit_test(many_metrics_have_one_picture_each),
        cmocka_unit_test(long_words_are_broken),
        cmocka_unit_test(equal_input_gives_equal_bytes),
        cmocka_unit_test(bars_fill_up_to_what_decides),
        cmocka_unit_test(a_gauge_is_told_in_plain_numbers),
        cmocka_unit_test(a_gauge_has_the_pictures_that_it_can_have),
        cmocka_unit_test(odd_gauges_are_drawn),
        cmocka_unit_test(guardrails_are_quiet_until_one_is_not_ok),
        cmocka_unit_test(a_guardrail_that_fires_is_blamed),
        cmocka_unit_test(kayenta_is_told_in_its_own_words),
        cmocka_unit_test(only_what_is_waited_for_is_unproven),
        cmocka_unit_test(foreign_guardrails_stay_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
