/* The memory of what a link still has to send; _output.pxd says what it means. */
#ifndef IMCORE_OUTPUT_TYPES_H
#define IMCORE_OUTPUT_TYPES_H
#include <stddef.h>
#include <stdint.h>
typedef struct { uint32_t refs; uint32_t messages; size_t cap, len; uint8_t data[]; } imcore_chunk;
typedef struct { imcore_chunk *chunk; size_t start, end; } imcore_segment;
typedef struct { imcore_segment *segs; uint32_t first, count, cap; size_t bytes; imcore_segment own[2]; } imcore_output;
#endif
