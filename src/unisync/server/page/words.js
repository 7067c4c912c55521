// Small words that the whole page uses.

export const $ = (selector, within = document) => within.querySelector(selector);
export const seconds = (value) => `${Number(value).toFixed(value < 10 ? 1 : 0)} s`;
export const long = (value) => (value < 90 ? seconds(value) : `${Math.round(value / 60)} min`);
export const size = (value) => {
  const [unit, words] = value < 1e6 ? [1e3, "kB"] : value < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  return `${Number((value / unit).toPrecision(3))} ${words}`;
};
