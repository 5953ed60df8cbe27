/** Amounts are whole numbers of the currency's smallest unit: cents, never fractions of a euro. */

/** How many digits of a currency stand behind its decimal mark. */
export function digitsOf(currency: string): number {
  return (
    new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions()
      .maximumFractionDigits ?? 2
  );
}

const formats = new Map<string, Intl.NumberFormat>();

/** An amount as people write it, with its currency. */
export function formatAmount(
  amount: number,
  currency: string,
  options: { readonly locale?: string; readonly sign?: boolean; readonly whole?: boolean } = {},
): string {
  const { locale, sign = false, whole = false } = options;
  const key = `${locale} ${currency} ${sign} ${whole}`;
  let format = formats.get(key);
  if (format === undefined) {
    format = new Intl.NumberFormat(locale, {
      style: "currency",
      currency,
      ...(sign ? { signDisplay: "exceptZero" as const } : {}),
      ...(whole ? { maximumFractionDigits: 0 } : {}),
    });
    formats.set(key, format);
  }
  return format.format(amount / 10 ** digitsOf(currency));
}

/** An amount as it stands in a field: no currency, a point. */
export function fieldAmount(amount: number, currency: string): string {
  return (amount / 10 ** digitsOf(currency)).toFixed(digitsOf(currency));
}

/**
 * Reads an amount as people type it: `12`, `12.5`, `1,234.50`, `1.234,50`. The last mark that is followed by
 * at most as many digits as the currency has is the decimal mark. Undefined where it is none.
 */
export function parseAmount(text: string, currency: string): number | undefined {
  const digits = digitsOf(currency);
  const plain = text.replaceAll(/[\s\u00A0'’]/gu, "");
  const parts = /^([+-])?(\d[\d.,]*|[.,]\d+)$/u.exec(plain);
  if (parts === null) return undefined;
  const figures = parts[2] as string;
  const mark = Math.max(figures.lastIndexOf("."), figures.lastIndexOf(","));
  const behind = mark < 0 ? 0 : figures.length - mark - 1;
  const isDecimal =
    mark >= 0 && behind <= digits && !figures.slice(0, mark).includes(figures[mark] as string);
  const whole = (isDecimal ? figures.slice(0, mark) : figures).replaceAll(/[.,]/gu, "");
  // What is left of marks must group by threes.
  const groups = (isDecimal ? figures.slice(0, mark) : figures).split(/[.,]/u);
  if (groups.length > 1 && groups.slice(1).some((group) => group.length !== 3)) return undefined;
  const fraction = isDecimal ? figures.slice(mark + 1).padEnd(digits, "0") : "0".repeat(digits);
  const amount = Number(whole + fraction);
  if (!Number.isSafeInteger(amount)) return undefined;
  return parts[1] === "-" ? -amount : amount;
}
