/* One JSON object a command, and a few lines for people. */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"
#include "analyzer/report/report.h"
#include "base/duration.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
                       int64_t next_look_ms)
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
    char *text = cJSON_PrintUnformatted(object);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
}

void show_rollout(const struct options *options, const struct rollout *rollout, const struct policy *policy,
                  const struct verdict *verdict, int64_t next_look_ms)
{
    if (options->format == FORMAT_JSON) {
        print_json(rollout, policy, verdict, next_look_ms);
        return;
    }
    char weight[FORMAT_TEXT], time[FORMAT_TEXT];
    printf("%s  %s at %s", rollout->id, rollout_state_names[rollout->state], format_weight(rollout->weight_bp, weight));
    if (policy && !rollout_ended(rollout))
        printf(", step %zu of %zu", rollout->step + 1, policy->step_count);
    printf("\n  %s\n", reason_of(rollout, verdict));
    if (rollout->advise && rollout->state == ROLLOUT_ROLLING_BACK)
        puts("  advice: put all traffic on stable; this rollout only advises, and ends when the balancer shows it");
    if (!rollout_ended(rollout))
        printf("  next look %s; ", format_time(next_look_ms, time));
    if (!rollout_ended(rollout))
        printf("without one, back to stable at %s\n", format_time(rollout->lease_until_ms, time));
}

int conclude(const struct options *options, struct engine *engine, struct store *store, bool ok,
             const struct error *err)
{
    if (engine)
        show_rollout(options, engine_rollout(engine), engine_policy(engine), engine_verdict(engine),
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
