/*
 * The top of the policy and the checks between its parts. A check compares only values that are right in themselves:
 * the sections return -1 and NaN for wrong ones, and the wrong one is a problem already.
 */
#include "policies/read.h"

#include "base/duration.h"
#include "policies/selector.h"

#include <stdlib.h>
#include <string.h>

static const int64_t second_ms = 1000, minute_ms = 60000, hour_ms = 3600000;

static void read_version(struct section *top)
{
    const struct tree_node *node = section_get(top, "version", "write `version: 1` as its first line");
    char *text = node ? text_of(top->reader, node, "version") : NULL;
    if (text && (strcmp(text, "1") != 0 || !node->plain))
        problem_add(top->reader->problems, node->mark, "`version` is `%s`; this haldane reads `version: 1`",
                    shown(text).text);
    free(text);
}

static void read_service(struct section *top, struct policy *policy)
{
    static const char alphanumeric[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    policy->service = section_text(top, "service", "name what is rolled out: `service: shop`");
    const char *name = policy->service;
    if (name && (strspn(name, alphanumeric) != strlen(name) || strchr("._-", *name) || strlen(name) > 63))
        problem_add(top->reader->problems, section_mark(top, "service"),
                    "`service` is `%s`; write 1 to 63 letters, digits, dots, - and _, the first a letter or digit",
                    shown(name).text);
}

static void read_tracks(struct section *top, struct policy *policy)
{
    static const char *const keys[TRACKS] = {"stable", "canary"};
    struct section s;
    if (!section_open_key(&s, top, "tracks", "say how Prometheus tells stable from canary"))
        return;
    for (int t = 0; t < TRACKS; t++) {
        char *text = section_text(&s, keys[t], "write the matchers of its series, like 'track=\"NAME\"'");
        policy->matchers[t] = text;
        char *problem = text ? matchers_problem(text) : NULL;
        if (problem)
            problem_add(s.reader->problems, section_mark(&s, keys[t]), "`%s` %s", keys[t], problem);
        free(problem);
    }
    const char *stable = policy->matchers[TRACK_STABLE], *canary = policy->matchers[TRACK_CANARY];
    if (stable && canary && strcmp(stable, canary) == 0)
        problem_add(s.reader->problems, section_mark(&s, "canary"),
                    "`canary` has the same matchers as `stable`; write what only the canary's series carry");
    section_close(&s);
}

static void read_times(struct section *top, struct policy *policy)
{
    policy->look_ms = section_duration(top, "look", 15 * second_ms);
    policy->settle_ms = section_duration(top, "settle", 30 * second_ms);
    policy->warmup_ms = section_duration(top, "warmup", minute_ms);
    if (policy->look_ms >= 0 && (policy->look_ms < second_ms || policy->look_ms % second_ms != 0))
        problem_add(top->reader->problems, section_mark(top, "look"),
                    "`look` must be whole seconds, at least 1s; write the scrape interval or a multiple of it");
    policy->deadline_ms = section_duration(top, "deadline", 4 * hour_ms);
    policy->retention_ms = section_duration(top, "retention", 90 * 24 * hour_ms);
}

static void read_risks(struct section *top, struct policy *policy)
{
    static const struct range risk = {
        .most = 0.5, .above = true, .why = "it is the chance of being wrong, not of being right"};
    static const struct words exposures = {.built = {[EXPOSURE_SCALED] = "scaled", [EXPOSURE_FIXED] = "fixed"}};
    static const struct words ends = {
        .built = {[UNDECIDED_HOLD] = "hold", [UNDECIDED_PROMOTE] = "promote", [UNDECIDED_ABORT] = "abort"}};
    static const struct words swaps = {
        .built = {[EXCHANGEABLE_LOOKS] = "looks", [EXCHANGEABLE_PODS] = "pods", [EXCHANGEABLE_REQUESTS] = "requests"}};
    policy->false_abort = section_fraction(top, "false_abort", 0.05, &risk);
    policy->false_promote = section_fraction(top, "false_promote", 0.05, &risk);
    policy->exposure = (enum exposure)section_choice(top, "exposure", NULL, &exposures, EXPOSURE_SCALED);
    policy->undecided = (enum undecided)section_choice(top, "undecided", NULL, &ends, UNDECIDED_HOLD);
    policy->exchangeable = (enum exchangeable)section_choice(top, "exchangeable", NULL, &swaps, EXCHANGEABLE_LOOKS);
}

static void refuse_unbuilt(struct section *top)
{
    static const char *const keys[] = {"alerts", "notify"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        section_not_built(top, keys[i]);
}

/* A lease shorter than the quiet time between two looks would end on its own. */
static void check_lease(const struct section *top, const struct policy *policy, struct mark at)
{
    int64_t look = policy->look_ms, settle = policy->settle_ms, lease = policy->traffic.unattended_ms;
    if (look < 0 || settle < 0 || lease < 0 || lease >= 2 * look + settle)
        return;
    char is[DURATION_TEXT], least[DURATION_TEXT];
    problem_add(top->reader->problems, at,
                "`unattended` (%s) is shorter than two looks and `settle` together; write at least %s, or traffic "
                "returns to stable between two looks",
                duration_format(lease, is), duration_format(2 * look + settle, least));
}

static void check_deadline(const struct section *top, const struct policy *policy)
{
    int64_t least = 0;
    for (size_t i = 0; i < policy->step_count; i++) {
        const struct policy_step *step = &policy->steps[i];
        if (step->min_ms < 0 || step->bake_ms < 0)
            return;
        least += step->min_ms + step->bake_ms;
    }
    if (policy->deadline_ms < 0 || policy->deadline_ms > least)
        return;
    char is[DURATION_TEXT], needed[DURATION_TEXT];
    problem_add(
        top->reader->problems, section_mark(top, section_has(top, "deadline") ? "deadline" : "steps"),
        "`deadline` (%s) is not longer than the least time that the steps take (%s); write more, or shorter steps",
        duration_format(policy->deadline_ms, is), duration_format(least, needed));
}

void read_policy(struct reader *reader, const struct tree_node *root, struct policy *policy)
{
    struct section top;
    if (root->kind == TREE_TEXT && !*root->text) {
        problem_add(reader->problems, root->mark, "the policy is empty; begin with a copy of http-service.yaml");
        return;
    }
    if (!section_open(&top, reader, root, "the policy", root->mark))
        return;
    read_version(&top);
    read_service(&top, policy);
    read_prometheus(&top, &policy->prometheus);
    read_tracks(&top, policy);
    read_times(&top, policy);
    struct mark lease_at = read_traffic(&top, &policy->traffic);
    read_steps(&top, policy);
    read_risks(&top, policy);
    read_metrics(&top, policy);
    read_crash(&top, policy);
    read_guardrails(&top, policy);
    read_kayenta(&top, policy);
    refuse_unbuilt(&top);
    check_lease(&top, policy, lease_at);
    check_deadline(&top, policy);
    section_close(&top);
}
