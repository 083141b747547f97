/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/bugs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct hf_bug_row hf_bug_rows[HF_BUG_end] = {{"", "none", "the code as it is"},
#define ROW(module, name, text) {#module, #name, text},
                                                   HF_BUGS(ROW)
#undef ROW
};

#ifdef HF_PLANTED_BUGS

enum hf_bug hf_bug_active;

int hf_bug_select(const char *name)
{
    for (int i = 0; i < HF_BUG_end; i++) {
        if (strcmp(hf_bug_rows[i].name, name) == 0) {
            hf_bug_active = (enum hf_bug)i;
            return 0;
        }
    }
    return -ENOENT;
}

const struct hf_bug_row *hf_bug_selected(void)
{
    return &hf_bug_rows[hf_bug_active];
}

/* For programs without an option of their own: which of them find it? */
static void __attribute__((constructor)) bug_of_environment(void)
{
    const char *name = getenv("HF_BUG");

    if (name && hf_bug_select(name) != 0) {
        (void)fprintf(stderr, "HF_BUG: no planted bug is called %s\n", name);
        exit(2); /* a misspelt bug must not look like one that nobody finds */
    }
}

#else

int hf_bug_select(const char *name)
{
    for (int i = 0; i < HF_BUG_end; i++) {
        if (strcmp(hf_bug_rows[i].name, name) == 0) {
            return i == HF_BUG_none ? 0 : -ENOTSUP;
        }
    }
    return -ENOENT;
}

const struct hf_bug_row *hf_bug_selected(void)
{
    return &hf_bug_rows[HF_BUG_none];
}

#endif
