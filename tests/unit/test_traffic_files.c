/* The files that a web server's share comes from: the page of the share, the writing that survives a crash, the lock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/durable.h"
#include "analyzer/traffic/ops.h"
#include "analyzer/traffic/probe.h"
#include "base/memory.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int folder_setup(void **state)
{
    char folder[] = "/tmp/haldane-files-XXXXXX";
    if (!mkdtemp(folder))
        return -1;
    *state = mem_strdup(folder);
    return 0;
}

static int remove_one(const char *path, const struct stat *what, int flag, struct FTW *walk)
{
    (void)what, (void)flag, (void)walk;
    return remove(path);
}

static int folder_teardown(void **state)
{
    nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static bool parse(const char *text, struct share_page *page)
{
    struct error err = {0};
    bool ok = share_page_parse(text, strlen(text), "share", page, &err);
    assert_true(ok || *err.text);
    return ok;
}

static void a_page_reads_back_as_it_was_written(void **state)
{
    (void)state;
    static const struct share_page pages[] = {{0, 0, 0}, {10000, 1, 2}, {1, UINT64_MAX, UINT64_MAX - 1}};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        struct share_page back;
        char *text = share_page_text(&pages[i]);
        assert_true(parse(text, &back));
        assert_true(share_page_equal(&pages[i], &back));
        assert_null(strpbrk(text, "'$\n")); /* it stands in quotes in nginx's configuration */
        free(text);
    }
}

static void what_is_no_page_is_not_taken_for_one(void **state)
{
    (void)state;
    struct share_page page;
    assert_true(parse(" {\"share_bp\":500,\"epoch\":42,\"generation\":7,\"more\":true}\n", &page));
    static const char *const wrong[] = {
        "",
        "<html>not found</html>",
        "{}",
        "{\"share_bp\":500,\"epoch\":42}",
        "{\"share_bp\":10001,\"epoch\":1,\"generation\":1}",
        "{\"share_bp\":-1,\"epoch\":1,\"generation\":1}",
        "{\"share_bp\":5.5,\"epoch\":1,\"generation\":1}",
        "{\"share_bp\":\"500\",\"epoch\":1,\"generation\":1}",
        "{\"share_bp\":500,\"epoch\":1,\"generation\":1}{}",
        "[500,1,1]",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(parse(wrong[i], &page));
}

static void a_file_is_replaced_whole_and_keeps_its_mode_and_its_link(void **state)
{
    char *path = mem_printf("%s/share.conf", (char *)*state), *link = mem_printf("%s/link", (char *)*state), *text;
    struct error err = {0};
    struct stat what;
    assert_int_equal(durable_read(path, &text, &err), DRIVER_OK);
    assert_null(text);
    assert_int_equal(durable_write(path, "one\n", &err), DRIVER_OK);
    assert_int_equal(stat(path, &what), 0);
    assert_int_equal(what.st_mode & 07777, 0644);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink("share.conf", link), 0);
    assert_int_equal(durable_write(link, "two\n", &err), DRIVER_OK);
    assert_int_equal(lstat(link, &what), 0);
    assert_true(S_ISLNK(what.st_mode));
    assert_int_equal(stat(path, &what), 0);
    assert_int_equal(what.st_mode & 07777, 0640);
    assert_int_equal(durable_read(path, &text, &err), DRIVER_OK);
    assert_string_equal(text, "two\n");
    free(text);
    char *part = durable_beside(path, ".new");
    assert_int_not_equal(access(part, F_OK), 0);
    assert_int_equal(durable_remove(path, &err), DRIVER_OK);
    assert_int_equal(durable_remove(path, &err), DRIVER_OK);
    assert_int_equal(durable_write("/nowhere/share.conf", "x", &err), DRIVER_REFUSED);
    assert_non_null(strstr(err.text, "/nowhere"));
    free(part);
    free(path);
    free(link);
}

static void what_lies_beside_a_file_is_hidden(void **state)
{
    (void)state;
    char *a = durable_beside("/etc/nginx/conf.d/split.conf", ".new"), *b = durable_beside("split.conf", ".lock");
    assert_string_equal(a, "/etc/nginx/conf.d/.split.conf.new");
    assert_string_equal(b, ".split.conf.lock");
    free(a);
    free(b);
}

static void a_lock_is_one_persons_until_it_is_closed(void **state)
{
    char *path = mem_printf("%s/lock", (char *)*state);
    struct error err = {0};
    int mine, other;
    assert_int_equal(durable_lock(path, driver_clock_ms(), &mine, &err), DRIVER_OK);
    int64_t begun = driver_clock_ms();
    assert_int_equal(durable_lock(path, begun + 100, &other, &err), DRIVER_TIMEOUT);
    assert_in_range(driver_clock_ms() - begun, 100, 1000);
    assert_non_null(strstr(err.text, path));
    close(mine);
    assert_int_equal(durable_lock(path, driver_clock_ms(), &other, &err), DRIVER_OK);
    close(other);
    free(path);
}

static void a_probe_that_nobody_answers_is_told_as_that(void **state)
{
    (void)state;
    struct share_page page;
    struct error err = {0};
    bool there = true;
    assert_int_equal(probe_ask("http://127.0.0.1:1/share", driver_clock_ms() + 2000, &page, &there, &err),
                     DRIVER_UNREACHABLE);
    assert_false(there);
    assert_non_null(strstr(err.text, "127.0.0.1:1"));
    assert_int_equal(probe_ask("file:///etc/hostname", driver_clock_ms() + 2000, &page, &there, &err),
                     DRIVER_UNREACHABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_reads_back_as_it_was_written),
        cmocka_unit_test(what_is_no_page_is_not_taken_for_one),
        cmocka_unit_test_setup_teardown(a_file_is_replaced_whole_and_keeps_its_mode_and_its_link, folder_setup,
                                        folder_teardown),
        cmocka_unit_test(what_lies_beside_a_file_is_hidden),
        cmocka_unit_test_setup_teardown(a_lock_is_one_persons_until_it_is_closed, folder_setup, folder_teardown),
        cmocka_unit_test(a_probe_that_nobody_answers_is_told_as_that),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
