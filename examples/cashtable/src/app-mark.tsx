/** The mark of the app. */
export function Mark() {
  return (
    <svg class="logo" viewBox="0 0 64 64" aria-hidden="true">
      <rect width="64" height="64" rx="14" />
      <path d="M16 22h32M16 33h32M16 44h13M39 46l4 4 8-10" />
    </svg>
  );
}
