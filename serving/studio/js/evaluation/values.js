// How values are written.

/** A value of a metric, percentages as such. */
export function written(value, metric) {
  return metric.percent ? (100 * value).toFixed(1) : value.toFixed(3);
}
