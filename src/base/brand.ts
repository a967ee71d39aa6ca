declare const brand: unique symbol;

/** A `Base` that only the guard owning `Name` may let through; costs nothing at run time. */
export type Brand<Base, Name extends string> = Base & { readonly [brand]: Name };
