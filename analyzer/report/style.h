/* The stylesheet of the HTML report: lines, ended by NULL. */
#ifndef HALDANE_REPORT_STYLE_H
#define HALDANE_REPORT_STYLE_H

#include <stddef.h>

extern const char *const report_style[];

#endif
