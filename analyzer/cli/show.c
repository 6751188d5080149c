/* One JSON object a command, and a few lines for people. */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"
#include "analyzer/report/report.h"
#include "analyzer/report/standing.h"
#include "base/duration.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHEN_TEXT = 2 * FORMAT_TEXT + 4 };

static void add_time(cJSON *object, const char *name, int64_t ms)
{
    char text[TIME_TEXT];
    if (ms > 0)
        cJSON_AddStringToObject(object, name, time_format(ms, text));
    else
        cJSON_AddNullToObject(object, name);
}

static const char *decision_of(const struct rollout *rollout, const struct verdict *verdict)
{
    if (rollout->state == ROLLOUT_PROMOTED)
        return decision_names[DECISION_PROMOTE];
    if (rollout->state == ROLLOUT_ROLLING_BACK || rollout_ended(rollout))
        return decision_names[DECISION_ABORT];
    return decision_names[verdict && rollout->state == ROLLOUT_STEPPING ? verdict->decision : DECISION_HOLD];
}

static const char *reason_of(const struct rollout *rollout, const struct verdict *verdict)
{
    bool moved = rollout->state != ROLLOUT_STEPPING;
    if (rollout->advise && rollout->reason && strncmp(rollout->reason, "advice", 6) == 0)
        return rollout->reason;
    bool fresh = verdict && verdict->at_ms > rollout->step_since_ms;
    return !moved && fresh ? verdict->reason : rollout->reason ? rollout->reason : "";
}

static void print_json(const struct rollout *rollout, const struct policy *policy, const struct verdict *verdict,
                       const struct standing *standing, int64_t next_look_ms)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "rollout", rollout->id);
    cJSON_AddStringToObject(object, "service", rollout->service);
    cJSON_AddStringToObject(object, "state", rollout_state_names[rollout->state]);
    cJSON_AddStringToObject(object, "cause", rollout_cause_names[rollout->cause]);
    cJSON_AddStringToObject(object, "decision", decision_of(rollout, verdict));
    cJSON_AddStringToObject(object, "reason", reason_of(rollout, verdict));
    cJSON_AddBoolToObject(object, "advise", rollout->advise);
    cJSON_AddNumberToObject(object, "weight", rollout->weight_bp);
    cJSON_AddNumberToObject(object, "step", (double)rollout->step);
    if (policy)
        cJSON_AddNumberToObject(object, "steps", (double)policy->step_count);
    add_time(object, "begun_at", rollout->begun_ms);
    add_time(object, "step_since", rollout->step_since_ms);
    add_time(object, "next_look_at", rollout_ended(rollout) ? 0 : next_look_ms);
    add_time(object, "lease_until", rollout_ended(rollout) ? 0 : rollout->lease_until_ms);
    add_time(object, "ended_at", rollout->ended_ms);
    const char *trouble = standing->failure ? standing->failure->detail : NULL;
    cJSON_AddItemToObject(object, "trouble", trouble ? cJSON_CreateString(trouble) : cJSON_CreateNull());
    cJSON_AddBoolToObject(object, "overdue", standing->overdue);
    char *text = cJSON_PrintUnformatted(object);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
}

/* Who reads this at night is mostly not in UTC. */
static const char *when(int64_t unix_ms, int64_t now_ms, char text[WHEN_TEXT])
{
    char time[FORMAT_TEXT], distance[FORMAT_TEXT];
    snprintf(text, WHEN_TEXT, "%s (%s)", format_time(unix_ms, time), format_relative(unix_ms, now_ms, distance));
    return text;
}

static void print_way_back(const struct rollout *rollout, const struct standing *standing, int64_t now_ms)
{
    char time[WHEN_TEXT];
    if (rollout->advise)
        puts("  advice: put all traffic on stable; this rollout ends when the balancer shows it");
    else if (standing->trouble == TROUBLE_NOT_SAVED)
        puts("  on stable, but NOT SAVED: a restart of the balancer would undo that");
    else
        puts("  NOT PROVEN to be on stable");
    if (standing->failure)
        printf("  the last try at %s failed: %s\n", when(standing->tried_ms, now_ms, time), standing->failure->detail);
    if (standing->overdue)
        printf("  overdue: nobody has tried since: haldane advance %s\n", rollout->id);
    else if (rollout->advise)
        printf("  `haldane advance %s` looks now\n", rollout->id);
    else
        printf("  tried again every second while `haldane guard` or `haldane rollout` runs; `haldane advance %s` tries "
               "now\n",
               rollout->id);
}

static void print_trouble(const struct standing *standing, int64_t now_ms)
{
    char time[WHEN_TEXT], distance[FORMAT_TEXT];
    if (standing->drift)
        printf("  drift %s: %s; set again\n", format_relative(standing->drift->at_ms, now_ms, distance),
               standing->drift->detail);
    if (standing->trouble == TROUBLE_NO_LOOK)
        printf("  no look since %s: %s\n", when(standing->tried_ms, now_ms, time), standing->failure->detail);
    if (standing->trouble == TROUBLE_NOT_MOVED)
        printf("  not moved since %s: %s\n", when(standing->failure->at_ms, now_ms, time), standing->failure->detail);
}

static void print_next(const struct rollout *rollout, const struct standing *standing, int64_t next_look_ms,
                       int64_t now_ms)
{
    char next[WHEN_TEXT], lease[WHEN_TEXT];
    if (standing->overdue) {
        printf("  overdue: the lease ended %s and nobody has acted: haldane advance %s\n",
               format_relative(rollout->lease_until_ms, now_ms, lease), rollout->id);
        return;
    }
    if (next_look_ms > 0)
        printf("  next look %s%s; without one, ", next_look_ms < now_ms ? "was due " : "",
               when(next_look_ms, now_ms, next));
    else
        printf("  without a look, ");
    printf("%s %s\n", rollout->advise ? "it expires at" : "back to stable at",
           when(rollout->lease_until_ms, now_ms, lease));
}

static void print_text(const struct rollout *rollout, const struct policy *policy, const struct verdict *verdict,
                       const struct standing *standing, int64_t next_look_ms, int64_t now_ms)
{
    char weight[FORMAT_TEXT];
    printf("%s  %s at %s", rollout->id, rollout_state_names[rollout->state], format_weight(rollout->weight_bp, weight));
    if (policy && !rollout_ended(rollout))
        printf(", step %zu of %zu", rollout->step + 1, policy->step_count);
    printf("%s\n  %s\n", rollout->advise ? "; advises only, moves no traffic" : "", reason_of(rollout, verdict));
    if (rollout_ended(rollout))
        return;
    if (rollout->state == ROLLOUT_ROLLING_BACK) {
        print_way_back(rollout, standing, now_ms);
        return;
    }
    print_trouble(standing, now_ms);
    print_next(rollout, standing, next_look_ms, now_ms);
}

void show_rollout(const struct options *options, struct store *store, const struct rollout *rollout,
                  const struct policy *policy, const struct verdict *verdict, int64_t next_look_ms)
{
    struct error ignored;
    struct audit_entry *audit = NULL;
    size_t count = 0;
    int64_t now_ms = wall_clock_ms();
    store_load_audit(store, rollout->id, &audit, &count, &ignored);
    struct standing standing =
        standing_of(rollout, audit, count, verdict, policy ? engine_lease_of(policy) : 0, now_ms);
    if (options->format == FORMAT_JSON)
        print_json(rollout, policy, verdict, &standing, next_look_ms);
    else
        print_text(rollout, policy, verdict, &standing, next_look_ms, now_ms);
    audit_entries_free(audit, count);
}

int conclude(const struct options *options, struct engine *engine, struct store *store, bool ok,
             const struct error *err)
{
    if (engine)
        show_rollout(options, store, engine_rollout(engine), engine_policy(engine), engine_verdict(engine),
                     engine_next_look_ms(engine));
    int code = ok ? exit_of_state(engine_rollout(engine)->state) : fail(err);
    engine_close(engine);
    store_close(store);
    return code;
}

void show_verdict(const struct options *options, const struct verdict *verdict)
{
    if (options->format == FORMAT_JSON) {
        char *text = verdict_to_json(verdict);
        puts(text);
        free(text);
        return;
    }
    struct report report = {.verdicts = &verdict, .verdict_count = 1};
    char *text = report_text(&report);
    fputs(text, stdout);
    free(text);
}
