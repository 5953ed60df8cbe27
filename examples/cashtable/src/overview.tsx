/** Where the money goes: a bar a month, and a month by category. */
import { useState } from "preact/hooks";
import { useLedger } from "./hooks.ts";
import { type MonthSums, months, spentBy, today } from "./ledger.ts";
import { formatAmount } from "./money.ts";
import { Amount } from "./parts.tsx";
import { monthName } from "./transactions.tsx";

const shownMonths = 12;

export function Overview() {
  const ledger = useLedger();
  const { currency } = ledger;
  const now = today().slice(0, 7);
  const [month, setMonth] = useState(now);
  const sums = months(ledger, now, shownMonths);
  const chosen = sums.find((each) => each.month === month);
  const categories = spentBy(ledger, month);
  const most = categories[0]?.spent ?? 1;
  return (
    <>
      <h1>Overview</h1>
      <section class="card">
        <h2>Twelve months</h2>
        <Chart sums={sums} currency={currency} month={month} choose={setMonth} />
        <p class="legend">
          <span class="spent">Spent</span>
          <span class="received">Received</span>
        </p>
        <details>
          <summary>As a table</summary>
          <table>
            <thead>
              <tr>
                <th scope="col">Month</th>
                <th scope="col" class="number">
                  Spent
                </th>
                <th scope="col" class="number">
                  Received
                </th>
                <th scope="col" class="number">
                  Left
                </th>
              </tr>
            </thead>
            <tbody>
              {sums.toReversed().map((each) => (
                <tr key={each.month}>
                  <th scope="row">{monthName(each.month)}</th>
                  <td class="number">{formatAmount(each.spent, currency)}</td>
                  <td class="number">{formatAmount(each.received, currency)}</td>
                  <td class="number">
                    <Amount value={each.received - each.spent} currency={currency} sign />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </details>
      </section>
      <section class="card">
        <h2>{monthName(month)}</h2>
        <dl class="sums">
          <div>
            <dt>Received</dt>
            <dd>{formatAmount(chosen?.received ?? 0, currency)}</dd>
          </div>
          <div>
            <dt>Spent</dt>
            <dd>{formatAmount(chosen?.spent ?? 0, currency)}</dd>
          </div>
          <div>
            <dt>Left</dt>
            <dd>
              <Amount
                value={(chosen?.received ?? 0) - (chosen?.spent ?? 0)}
                currency={currency}
                sign
              />
            </dd>
          </div>
        </dl>
        {categories.length === 0 ? (
          <p class="hint">Nothing was spent.</p>
        ) : (
          <ul class="shares">
            {categories.map(({ id, name, spent }) => (
              <li key={id}>
                <span>{name}</span>
                <span class="share" aria-hidden="true">
                  <span style={{ width: `${(spent / most) * 100}%` }} />
                </span>
                <span class="number">{formatAmount(spent, currency)}</span>
              </li>
            ))}
          </ul>
        )}
      </section>
    </>
  );
}

/** Two bars a month; a month is chosen by click or by key. */
function Chart(props: {
  readonly sums: readonly MonthSums[];
  readonly currency: string;
  readonly month: string;
  readonly choose: (month: string) => void;
}) {
  const { sums, currency, month, choose } = props;
  const most = Math.max(1, ...sums.flatMap(({ spent, received }) => [spent, received]));
  return (
    <div class="chart">
      <p class="scale" aria-hidden="true">
        <span>{formatAmount(most, currency, { whole: true })}</span>
        <span>{formatAmount(most / 2, currency, { whole: true })}</span>
        <span>0</span>
      </p>
      <div class="bars" role="group" aria-label="Spent and received in each month">
        {sums.map((each) => (
          <button
            type="button"
            key={each.month}
            aria-pressed={each.month === month}
            aria-label={`${monthName(each.month)}: spent ${formatAmount(each.spent, currency)}, received ${formatAmount(each.received, currency)}`}
            onClick={() => choose(each.month)}
          >
            <svg viewBox="0 0 24 100" preserveAspectRatio="none" aria-hidden="true">
              <Bar x={3} value={each.spent / most} tone="spent" />
              <Bar x={13} value={each.received / most} tone="received" />
            </svg>
            <span>{monthName(each.month, "short")}</span>
          </button>
        ))}
      </div>
    </div>
  );
}

function Bar({
  x,
  value,
  tone,
}: {
  readonly x: number;
  readonly value: number;
  readonly tone: string;
}) {
  const height = value === 0 ? 0 : Math.max(1, value * 100);
  return <rect class={tone} x={x} y={100 - height} width={8} height={height} />;
}
