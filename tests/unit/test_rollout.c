/*
 * The state machine as the page says it: docs/rollout.md is read, and every state and event there and in the table must
 * agree. And the rules that a user would be woken for: harm always goes back, nothing stops a rollback, nothing moves
 * what has ended.
 */
#include "analyzer/rollout/machine.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COLUMNS = ROLLOUT_STATES + 1 };

static char *read_page(void)
{
    const char *root = getenv("HALDANE_SOURCE");
    if (!root)
        fail_msg("HALDANE_SOURCE is not set; it must name the root of the source tree");
    char *path = mem_printf("%s/docs/rollout.md", root);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read", path);
    char *text = mem_alloc(1 << 16, 1);
    size_t length = fread(text, 1, (1 << 16) - 1, file);
    assert_true(length < (1 << 16) - 1);
    fclose(file);
    free(path);
    return text;
}

/* Cuts the line at its end and into cells without the blanks around them; how many there are. */
static size_t cut_cells(char **line, char *cells[COLUMNS + 1])
{
    char *end = *line + strcspn(*line, "\n"), *next = *end ? end + 1 : end;
    *end = '\0';
    size_t count = 0;
    if (**line == '|') {
        char *cell = *line + 1;
        for (char *bar = strchr(cell, '|'); bar; cell = bar + 1, bar = strchr(cell, '|')) {
            *bar = '\0';
            cell += strspn(cell, " ");
            for (char *back = bar; back > cell && back[-1] == ' '; back--)
                back[-1] = '\0';
            if (count <= COLUMNS)
                cells[count] = cell;
            count++;
        }
    }
    *line = next;
    return count;
}

/* The lines of the table whose first row begins so, after its rule. */
static char *table_after(char *page, const char *first_row)
{
    char *at = strstr(page, first_row);
    if (!at)
        fail_msg("docs/rollout.md has no table that begins with %s", first_row);
    return at;
}

static const char *cell_of(enum rollout_state state, enum rollout_event event, char text[64])
{
    struct rollout_move move = rollout_move(state, event);
    switch (move.action) {
    case ACTION_NEXT_STEP:
        assert_int_equal(move.next, ROLLOUT_STEPPING);
        return "next step";
    case ACTION_KEEP:
        assert_int_equal(move.next, state);
        return "keep";
    case ACTION_SET_AGAIN:
        assert_int_equal(move.next, state);
        return "set again";
    case ACTION_TO_STABLE:
        assert_int_equal(move.next, ROLLOUT_ROLLING_BACK);
        return "to stable";
    case ACTION_REFUSE:
        assert_int_equal(move.next, state);
        return "refuse";
    case ACTION_NONE:
        break;
    }
    if (move.next == state)
        return "–";
    snprintf(text, 64, "→ %s", rollout_state_names[move.next]);
    return text;
}

static void check_row(char *cells[COLUMNS], const int columns[COLUMNS], bool seen[ROLLOUT_EVENTS])
{
    size_t event = 0;
    while (event < ROLLOUT_EVENTS && strcmp(rollout_event_names[event], cells[0]) != 0)
        event++;
    if (event == ROLLOUT_EVENTS || seen[event])
        fail_msg("the page's event \"%s\" is unknown or there twice", cells[0]);
    seen[event] = true;
    for (size_t c = 1; c < COLUMNS; c++) {
        char text[64];
        const char *want = cell_of((enum rollout_state)columns[c], (enum rollout_event)event, text);
        if (strcmp(want, cells[c]) != 0)
            fail_msg("%s, %s: the page says \"%s\", the table \"%s\"", rollout_state_names[columns[c]], cells[0],
                     cells[c], want);
    }
}

static void read_columns(char *cells[COLUMNS], int columns[COLUMNS])
{
    bool seen[ROLLOUT_STATES] = {false};
    for (size_t c = 1; c < COLUMNS; c++) {
        int state = 0;
        while (state < ROLLOUT_STATES && strcmp(rollout_state_names[state], cells[c]) != 0)
            state++;
        if (state == ROLLOUT_STATES || seen[state])
            fail_msg("the page's state \"%s\" is unknown or there twice", cells[c]);
        seen[state] = true;
        columns[c] = state;
    }
}

static void the_page_and_the_table_agree(void **state)
{
    (void)state;
    char *page = read_page(), *line = table_after(page, "| event | stepping ");
    char *cells[COLUMNS + 1];
    int columns[COLUMNS] = {0};
    bool seen[ROLLOUT_EVENTS] = {false};
    assert_int_equal(cut_cells(&line, cells), COLUMNS);
    read_columns(cells, columns);
    assert_int_equal(cut_cells(&line, cells), COLUMNS); /* the rule */
    size_t rows = 0, count;
    while ((count = cut_cells(&line, cells)) > 0) {
        assert_int_equal(count, COLUMNS);
        check_row(cells, columns, seen);
        rows++;
    }
    assert_int_equal(rows, ROLLOUT_EVENTS);
    free(page);
}

/* The tables that explain states and events name each once. */
static void check_names(const char *first_row, const char *const *names, size_t name_count)
{
    char *page = read_page(), *line = table_after(page, first_row);
    char *cells[COLUMNS + 1];
    cut_cells(&line, cells);
    cut_cells(&line, cells);
    size_t rows = 0;
    while (cut_cells(&line, cells) > 0) {
        assert_true(rows < name_count);
        assert_string_equal(cells[0], names[rows]);
        rows++;
    }
    assert_int_equal(rows, name_count);
    free(page);
}

static void drift_is_for_the_policy_to_answer(void **state)
{
    (void)state;
    static const enum rollout_event events[] = {
        [DRIFT_HEAL] = EVENT_CHANGED_HEAL, [DRIFT_HOLD] = EVENT_CHANGED_HOLD, [DRIFT_ABORT] = EVENT_CHANGED_ABORT};
    for (int drift = DRIFT_HEAL; drift <= DRIFT_ABORT; drift++) {
        struct policy policy = {.traffic.drift = (enum drift)drift};
        assert_int_equal(rollout_drift_event(&policy, false), events[drift]);
        /* Somebody put all traffic on stable. */
        assert_int_equal(rollout_drift_event(&policy, true), drift == DRIFT_HEAL ? EVENT_CHANGED_HOLD : events[drift]);
    }
}

/* Who reads why a rollout went back must be able to tell harm from time and from a person. */
static void every_way_back_has_its_cause(void **state)
{
    (void)state;
    for (int e = 0; e < ROLLOUT_EVENTS; e++) {
        enum rollout_cause cause = rollout_cause_of((enum rollout_event)e);
        assert_int_equal(cause == CAUSE_HARMED, e == EVENT_HARM);
        assert_int_equal(cause == CAUSE_EXPIRED, e == EVENT_OUT_OF_TIME || e == EVENT_SILENT || e == EVENT_LEASE_OVER);
        assert_int_equal(cause == CAUSE_SUPERSEDED, e == EVENT_SUPERSEDE || e == EVENT_FENCED);
        assert_int_equal(cause == CAUSE_PERSON, e >= EVENT_PROMOTE && e <= EVENT_ABORT);
    }
}

static void the_page_explains_every_state_and_event(void **state)
{
    (void)state;
    check_names("| state | meaning ", rollout_state_names, ROLLOUT_STATES);
    check_names("| event | when it happens ", rollout_event_names, ROLLOUT_EVENTS);
}

/* --- rules that hold whatever the cells are --- */

static bool ended(enum rollout_state state)
{
    return rollout_ended(&(struct rollout){.state = state});
}

static void what_has_ended_does_not_move(void **state)
{
    (void)state;
    size_t ends = 0;
    for (int s = 0; s < ROLLOUT_STATES; s++)
        for (int e = 0; e < ROLLOUT_EVENTS && ended((enum rollout_state)s); e++) {
            enum rollout_action action = rollout_move((enum rollout_state)s, (enum rollout_event)e).action;
            assert_true(action == ACTION_NONE || action == ACTION_REFUSE);
            assert_int_equal(rollout_move((enum rollout_state)s, (enum rollout_event)e).next, s);
            ends++;
        }
    assert_int_equal(ends, 4 * ROLLOUT_EVENTS);
}

static void harm_and_time_always_go_back(void **state)
{
    (void)state;
    static const enum rollout_event back[] = {
        EVENT_HARM,           EVENT_OUT_OF_TIME,   EVENT_SILENT,     EVENT_ABORT,          EVENT_SUPERSEDE,
        EVENT_SPLIT_UNPROVEN, EVENT_CHANGED_ABORT, EVENT_LEASE_OVER, EVENT_RESTART_UNSURE, EVENT_ALERT_ABORT};
    for (int s = 0; s < ROLLOUT_STATES; s++)
        for (size_t e = 0; e < sizeof back / sizeof *back && !ended((enum rollout_state)s); e++) {
            assert_int_equal(rollout_move((enum rollout_state)s, back[e]).action, ACTION_TO_STABLE);
            assert_int_equal(rollout_move((enum rollout_state)s, back[e]).next, ROLLOUT_ROLLING_BACK);
        }
}

static void only_proof_of_stable_ends_a_rollback(void **state)
{
    (void)state;
    /* But for the split of another engine, which is not ours to restore. */
    for (int e = 0; e < ROLLOUT_EVENTS; e++)
        if (e != EVENT_STABLE_PROVEN && e != EVENT_FENCED)
            assert_int_equal(rollout_move((enum rollout_state)ROLLOUT_ROLLING_BACK, (enum rollout_event)e).next,
                             ROLLOUT_ROLLING_BACK);
    assert_true(ended(rollout_move(ROLLOUT_ROLLING_BACK, EVENT_STABLE_PROVEN).next));
    assert_int_equal(rollout_end_of(CAUSE_EXPIRED), ROLLOUT_EXPIRED);
    assert_int_equal(rollout_end_of(CAUSE_HARMED), ROLLOUT_ABORTED);
    assert_int_equal(rollout_end_of(CAUSE_PERSON), ROLLOUT_ABORTED);
    assert_int_equal(rollout_end_of(CAUSE_DRIVER), ROLLOUT_ABORTED);
    assert_int_equal(rollout_end_of(CAUSE_ALERT), ROLLOUT_ABORTED);
    assert_int_equal(rollout_end_of(CAUSE_SUPERSEDED), ROLLOUT_SUPERSEDED);
}

/* Up goes only what is proven, in stepping, or what a person says. */
static void nothing_moves_up_by_itself(void **state)
{
    (void)state;
    for (int s = 0; s < ROLLOUT_STATES; s++)
        for (int e = 0; e < ROLLOUT_EVENTS; e++) {
            struct rollout_move move = rollout_move((enum rollout_state)s, (enum rollout_event)e);
            bool up = move.action == ACTION_NEXT_STEP || move.action == ACTION_KEEP;
            bool by_person = e == EVENT_PROMOTE || e == EVENT_PROMOTE_LAST;
            bool by_proof = s == ROLLOUT_STEPPING && (e == EVENT_PROVEN || e == EVENT_PROVEN_LAST);
            assert_true(!up || by_person || by_proof);
            /* Promoted is what the balancer has shown to keep, and nothing else. */
            assert_true(move.next != ROLLOUT_PROMOTED || s == ROLLOUT_PROMOTED || e == EVENT_KEPT);
        }
}

/* --- what a verdict means --- */

enum { SECOND_MS = 1000, HOUR_MS = 3600 * SECOND_MS };

static struct policy_step steps[] = {{.weight_bp = 500}, {.weight_bp = 2500, .pause = true}, {.weight_bp = 10000}};
static const struct policy policy = {.steps = steps, .step_count = 3, .deadline_ms = 4 * HOUR_MS};

static struct rollout at_step(size_t step)
{
    return (struct rollout){.step = step, .begun_ms = SECOND_MS, .lease_until_ms = 10 * HOUR_MS};
}

static enum rollout_event event_of(size_t step, enum decision decision, enum metric_status status, int64_t now_ms)
{
    struct rollout rollout = at_step(step);
    struct metric_verdict metric = {.critical = true, .status = status};
    struct verdict verdict = {.decision = decision, .metrics = &metric, .metric_count = 1};
    return rollout_event_of(&policy, &rollout, &verdict, now_ms);
}

static void a_verdict_is_an_event(void **state)
{
    (void)state;
    int64_t now_ms = HOUR_MS;
    assert_int_equal(event_of(0, DECISION_HOLD, METRIC_UNDECIDED, now_ms), EVENT_WAITING);
    assert_int_equal(event_of(0, DECISION_HOLD, METRIC_NO_DATA, now_ms), EVENT_WAITING);
    assert_int_equal(event_of(0, DECISION_PROMOTE, METRIC_SAFE, now_ms), EVENT_PROVEN);
    assert_int_equal(event_of(1, DECISION_PROMOTE, METRIC_SAFE, now_ms), EVENT_PROVEN_PAUSE);
    assert_int_equal(event_of(2, DECISION_PROMOTE, METRIC_SAFE, now_ms), EVENT_PROVEN_LAST);
    assert_int_equal(event_of(0, DECISION_ABORT, METRIC_HARMED, now_ms), EVENT_HARM);
    assert_int_equal(event_of(0, DECISION_ABORT, METRIC_EXPIRED, now_ms), EVENT_OUT_OF_TIME);
    assert_int_equal(event_of(0, DECISION_ABORT, METRIC_NO_DATA, now_ms), EVENT_SILENT);
    struct rollout rollout = at_step(0);
    assert_int_equal(rollout_event_of(&policy, &rollout, NULL, now_ms), EVENT_WAITING);
}

static void a_pause_on_the_last_step_waits_too(void **state)
{
    (void)state;
    struct policy_step last[] = {{.weight_bp = 5000, .pause = true}};
    struct policy one = {.steps = last, .step_count = 1, .deadline_ms = HOUR_MS};
    struct rollout rollout = at_step(0);
    struct verdict verdict = {.decision = DECISION_PROMOTE};
    assert_int_equal(rollout_event_of(&one, &rollout, &verdict, 2 * SECOND_MS), EVENT_PROVEN_PAUSE);
    assert_int_equal(rollout_promote_event(&one, &rollout), EVENT_PROMOTE_LAST);
}

static void harm_comes_before_time_and_time_before_proof(void **state)
{
    (void)state;
    int64_t deadline_ms = SECOND_MS + 4 * HOUR_MS;
    assert_int_equal(event_of(0, DECISION_PROMOTE, METRIC_SAFE, deadline_ms - 1), EVENT_PROVEN);
    assert_int_equal(event_of(0, DECISION_PROMOTE, METRIC_SAFE, deadline_ms), EVENT_OUT_OF_TIME);
    assert_int_equal(event_of(1, DECISION_PROMOTE, METRIC_SAFE, deadline_ms), EVENT_OUT_OF_TIME);
    assert_int_equal(event_of(2, DECISION_PROMOTE, METRIC_SAFE, deadline_ms), EVENT_OUT_OF_TIME);
    assert_int_equal(event_of(0, DECISION_HOLD, METRIC_UNDECIDED, deadline_ms), EVENT_OUT_OF_TIME);
    assert_int_equal(event_of(0, DECISION_ABORT, METRIC_HARMED, deadline_ms), EVENT_HARM);
}

static void the_lease_ends_at_its_moment(void **state)
{
    (void)state;
    struct rollout rollout = at_step(0);
    struct metric_verdict metric = {.critical = true, .status = METRIC_HARMED};
    struct verdict proof = {.decision = DECISION_PROMOTE},
                   harm = {.decision = DECISION_ABORT, .metrics = &metric, .metric_count = 1};
    rollout.lease_until_ms = HOUR_MS;
    assert_int_equal(rollout_event_of(&policy, &rollout, &proof, HOUR_MS - 1), EVENT_PROVEN);
    assert_int_equal(rollout_event_of(&policy, &rollout, &proof, HOUR_MS), EVENT_OUT_OF_TIME);
    assert_int_equal(rollout_event_of(&policy, &rollout, NULL, HOUR_MS), EVENT_OUT_OF_TIME);
    assert_int_equal(rollout_event_of(&policy, &rollout, &harm, HOUR_MS), EVENT_HARM);
}

static void a_persons_promote_knows_the_last_step(void **state)
{
    (void)state;
    for (size_t step = 0; step < 3; step++) {
        struct rollout rollout = at_step(step);
        assert_int_equal(rollout_promote_event(&policy, &rollout), step == 2 ? EVENT_PROMOTE_LAST : EVENT_PROMOTE);
    }
}

/* A weight that a balancer of whole numbers gives back is still the step that was asked for. */
static void a_rounded_weight_is_its_step(void **state)
{
    (void)state;
    static const struct {
        uint32_t weight_bp;
        int32_t step;
    } cases[] = {{0, -1},   {500, 0},  {503, 0},  {485, 0},   {515, 0},   {516, -1}, {484, -1}, {1000, -1},
                 {2500, 1}, {2525, 1}, {2475, 1}, {2526, -1}, {10000, 2}, {9900, 2}, {9899, -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(rollout_step_of(&policy, cases[i].weight_bp), cases[i].step);
    struct policy_step small[] = {{.weight_bp = 1}, {.weight_bp = 10}, {.weight_bp = 20}};
    struct policy near = {.steps = small, .step_count = 3};
    assert_int_equal(rollout_step_of(&near, 0), -1);
    assert_int_equal(rollout_step_of(&near, 4), 0);
    assert_int_equal(rollout_step_of(&near, 9), 1);
    assert_int_equal(rollout_step_of(&near, 35), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_and_the_table_agree),
        cmocka_unit_test(the_page_explains_every_state_and_event),
        cmocka_unit_test(drift_is_for_the_policy_to_answer),
        cmocka_unit_test(every_way_back_has_its_cause),
        cmocka_unit_test(what_has_ended_does_not_move),
        cmocka_unit_test(harm_and_time_always_go_back),
        cmocka_unit_test(only_proof_of_stable_ends_a_rollback),
        cmocka_unit_test(nothing_moves_up_by_itself),
        cmocka_unit_test(a_verdict_is_an_event),
        cmocka_unit_test(a_pause_on_the_last_step_waits_too),
        cmocka_unit_test(harm_comes_before_time_and_time_before_proof),
        cmocka_unit_test(the_lease_ends_at_its_moment),
        cmocka_unit_test(a_persons_promote_knows_the_last_step),
        cmocka_unit_test(a_rounded_weight_is_its_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
