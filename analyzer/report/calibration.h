/* What a calibration found, for a person. Pure functions from the model to text. */
#ifndef HALDANE_REPORT_CALIBRATION_H
#define HALDANE_REPORT_CALIBRATION_H

#include "analyzer/model/calibration.h"

char *calibration_text(const struct calibration *calibration); /* for a terminal; the caller frees it */

#endif
