/** The store's file as SQLite has it, for what the contract does not show. */
import { join } from "node:path";
import { SqliteConnection } from "../../../server/store/sqlite-connection.ts";
import { databaseName } from "../../../server/store/sqlite-store.ts";

export async function withDatabase<Result>(
  folder: string,
  use: (connection: SqliteConnection) => Promise<Result>,
): Promise<Result> {
  const connection = await SqliteConnection.open(join(folder, databaseName));
  try {
    return await use(connection);
  } finally {
    await connection.close();
  }
}

export async function pragma(connection: SqliteConnection, name: string): Promise<unknown> {
  const [row] = await connection.query<Readonly<Record<string, unknown>>>(`PRAGMA ${name}`);
  return row?.[name];
}
