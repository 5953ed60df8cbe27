/** What somebody entered into a form that is being submitted, by the fields' names. */
export type Entered = (name: string) => string;

export function entered(event: SubmitEvent): Entered {
  event.preventDefault();
  const form = new FormData(event.currentTarget as HTMLFormElement);
  return (name) => {
    const value = form.get(name);
    return typeof value === "string" ? value.trim() : "";
  };
}
