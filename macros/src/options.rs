//! What stands in the brackets of an attribute, and the calls on the builder that it becomes.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprPath, Lit, Path, Token};

use crate::function::note;

/// Each option, and what it takes, with an example.
const OPTIONS: [(&str, &str); 8] = [
    ("sq_entries", "a `u32`: `sq_entries = 64`"),
    ("cq_entries", "a `u32`: `cq_entries = 1024`"),
    ("timers", r#""auto", "kernel" or "heap": `timers = "heap"`"#),
    ("ctrl_c", "`true` or `false`: `ctrl_c = false`"),
    ("iowait", "`true` or `false`: `iowait = true`"),
    ("debug", "`true` or `false`: `debug = true`"),
    ("grace", "a `Duration`: `grace = Duration::from_secs(1)`"),
    ("crate", "coring's path: `crate = my_crate::coring`"),
];

/// The options of one attribute.
pub(crate) struct Options {
    /// Where coring is.
    pub(crate) krate: Path,
    /// Calls on the builder, in the order of the options.
    pub(crate) calls: TokenStream,
}

impl Options {
    /// Reads `tokens`. What is wrong with them is noted, and the rest counts all the same.
    pub(crate) fn read(tokens: TokenStream, ctrl_c: bool, faults: &mut Option<Error>) -> Self {
        let list = Punctuated::<Given, Token![,]>::parse_terminated;
        let given = list.parse2(tokens).unwrap_or_else(|fault| {
            note(faults, fault);
            Punctuated::new()
        });
        let mut options: Vec<Given> = Vec::new();
        for option in given {
            let name = &option.name;
            if options.iter().any(|before| before.name == *name) {
                let text = format!("`{name}` is given twice");
                note(faults, Error::new_spanned(name, text));
            } else {
                options.push(option);
            }
        }

        let mut krate = syn::parse_quote!(::coring);
        for option in options.iter().filter(|option| option.name == "crate") {
            match option.path() {
                Ok(path) => krate = path,
                Err(fault) => note(faults, fault),
            }
        }
        let mut calls = TokenStream::new();
        if ctrl_c && !options.iter().any(|option| option.name == "ctrl_c") {
            calls.extend(quote!(.ctrl_c(true)));
        }
        for option in options.iter().filter(|option| option.name != "crate") {
            match option.argument(&krate) {
                Ok(argument) => {
                    let name = &option.name;
                    calls.extend(quote!(.#name(#argument)));
                }
                Err(fault) => note(faults, fault),
            }
        }
        Self { krate, calls }
    }
}

/// `name = value`, of which the value may be forgotten.
struct Given {
    name: Ident,
    value: Option<Expr>,
}

impl Parse for Given {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = input.call(Ident::parse_any).map_err(|fault| {
            Error::new(
                fault.span(),
                format!("an option begins with its name: {}", all()),
            )
        })?;
        // Whatever the value is, a name that nobody knows is what is wrong.
        takes(&name)?;
        let assigned = input.parse::<Option<Token![=]>>()?.is_some();
        let value = if input.is_empty() || input.peek(Token![,]) {
            None
        } else if assigned {
            Some(input.parse()?)
        } else {
            return Err(wrong(&name, &input.cursor().token_stream()));
        };
        Ok(Self { name, value })
    }
}

impl Given {
    /// What the builder's method is called with.
    fn argument(&self, krate: &Path) -> syn::Result<TokenStream> {
        let Some(value) = &self.value else {
            return Err(wrong(&self.name, &self.name));
        };
        let value = bare(value);
        let literal = match value {
            Expr::Lit(literal) => Some(&literal.lit),
            _ => None,
        };
        let name = self.name.to_string();
        let argument = match (name.as_str(), literal) {
            ("sq_entries" | "cq_entries", Some(Lit::Int(number))) => number
                .base10_parse::<u32>()
                .ok()
                .filter(|_| matches!(number.suffix(), "" | "u32"))
                .map(|_| quote!(#number)),
            ("timers", Some(Lit::Str(timers))) => match timers.value().as_str() {
                "auto" => Some(quote!(#krate::Timers::Auto)),
                "kernel" => Some(quote!(#krate::Timers::Kernel)),
                "heap" => Some(quote!(#krate::Timers::Heap)),
                _ => None,
            },
            ("ctrl_c" | "iowait" | "debug", Some(Lit::Bool(flag))) => Some(quote!(#flag)),
            // No literal is a Duration; whether anything else is one, the compiler says.
            ("grace", None) => Some(quote!(#value)),
            _ => None,
        };
        argument.ok_or_else(|| wrong(&self.name, value))
    }

    fn path(&self) -> syn::Result<Path> {
        match self.value.as_ref().map(bare) {
            Some(Expr::Path(ExprPath {
                qself: None, path, ..
            })) => Ok(path.clone()),
            Some(other) => Err(wrong(&self.name, other)),
            None => Err(wrong(&self.name, &self.name)),
        }
    }
}

/// Without the invisible group in which a macro's variable comes.
fn bare(mut value: &Expr) -> &Expr {
    while let Expr::Group(group) = value {
        value = &group.expr;
    }
    value
}

/// What an option takes.
fn takes(name: &Ident) -> syn::Result<&'static str> {
    let known = OPTIONS.iter().find(|(option, _)| name == option);
    known
        .map(|(_, takes)| *takes)
        .ok_or_else(|| Error::new_spanned(name, format!("no option `{name}`: {}", all())))
}

fn wrong(name: &Ident, value: &dyn ToTokens) -> Error {
    match takes(name) {
        Ok(takes) => Error::new_spanned(value, format!("`{name}` takes {takes}")),
        Err(unknown) => unknown,
    }
}

/// The options' names, for a sentence.
fn all() -> String {
    let names: Vec<_> = OPTIONS
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let (last, others) = names.split_last().expect("there are options");
    format!("there are {} and {last}", others.join(", "))
}
