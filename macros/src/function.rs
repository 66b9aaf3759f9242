//! The function that an attribute stands on, and what it becomes.

use proc_macro2::{Delimiter, Group, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Error, Path, Signature, Visibility, braced};

use crate::options::Options;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    Main,
    Test,
}

impl Attribute {
    fn name(self) -> &'static str {
        match self {
            Self::Main => "#[coring::main]",
            Self::Test => "#[coring::test]",
        }
    }
}

/// Adds a fault to those that the compiler is to report, all at once.
pub(crate) fn note(faults: &mut Option<Error>, fault: Error) {
    match faults {
        Some(faults) => faults.combine(fault),
        None => *faults = Some(fault),
    }
}

/// The function for `item`. Where something is wrong it stands beside the errors, as far as it can
/// be made, so that the compiler does not add that there is no such function.
pub(crate) fn expand(attribute: Attribute, options: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse2::<Function>(item.clone()) {
        Ok(function) => function,
        Err(fault) => {
            let text = format!("`{}` is for an `async fn` with a body", attribute.name());
            let error = Error::new(fault.span(), text).into_compile_error();
            return quote!(#error #item);
        }
    };
    let mut faults = None;
    let Options { krate, calls } =
        Options::read(options, attribute == Attribute::Main, &mut faults);
    let callable = function.check(attribute, &mut faults);

    let is_test = function.other_test().is_some();
    let Function {
        attributes,
        visibility,
        signature: mut inner,
        body,
    } = function;
    inner.asyncness.get_or_insert_default();
    let mut outer = inner.clone();
    outer.asyncness = None;
    let name = &inner.ident;
    let mut run = quote!(#krate::Runner::builder()#calls.run(#name()));
    if !callable {
        outer = syn::parse_quote!(fn #name());
        run = TokenStream::new();
    }
    let test =
        (attribute == Attribute::Test && !is_test).then(|| quote!(#[::core::prelude::v1::test]));
    let errors = faults.map(Error::into_compile_error);
    // A function, not a block: the type of its output is known inside, and errors about it are
    // where the user expects them. By the same name, since backtraces show it.
    quote! {
        #errors
        #test
        #(#attributes)*
        #visibility #outer {
            #inner #body
            #run
        }
    }
}

/// A function whose body is not looked at: it may have whatever the compiler accepts.
struct Function {
    attributes: Vec<syn::Attribute>,
    visibility: Visibility,
    signature: Signature,
    body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self {
            attributes: input.call(syn::Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
            body: {
                let body;
                let braces = braced!(body in input);
                let mut body = Group::new(Delimiter::Brace, body.parse()?);
                body.set_span(braces.span.join());
                body
            },
        })
    }
}

impl Function {
    /// An attribute that makes it a test as well: `#[test]`, or that of another runtime.
    fn other_test(&self) -> Option<&syn::Attribute> {
        let is_test = |path: &Path| {
            path.segments
                .last()
                .is_some_and(|last| last.ident == "test")
        };
        self.attributes.iter().find(|other| is_test(other.path()))
    }

    /// Notes what is wrong, and says whether the function can be called once it is async.
    fn check(&self, attribute: Attribute, faults: &mut Option<Error>) -> bool {
        let (name, signature) = (attribute.name(), &self.signature);
        let mut refuse = |part: &dyn ToTokens, text: &str| {
            note(faults, Error::new_spanned(part, text));
        };
        if signature.asyncness.is_none() {
            let text = format!("`{name}` runs an async function: add `async` in front of `fn`");
            refuse(&signature.fn_token, &text);
        }
        if let Some(other) = self.other_test().filter(|_| attribute == Attribute::Test) {
            let text = format!("`{name}` makes it a test already: take this away");
            refuse(other, &text);
        }

        let Signature {
            constness,
            unsafety,
            abi,
            generics,
            inputs,
            ..
        } = signature;
        let mut parts: Vec<(&dyn ToTokens, &str)> = Vec::new();
        if let Some(part) = constness {
            parts.push((part, "that is not `const`"));
        }
        if let Some(part) = unsafety {
            parts.push((part, "that is safe"));
        }
        if let Some(part) = abi {
            parts.push((part, "of Rust's own ABI"));
        }
        if !generics.params.is_empty() {
            parts.push((generics, GENERICS));
        } else if let Some(part) = &generics.where_clause {
            parts.push((part, GENERICS));
        }
        if !inputs.is_empty() {
            let text = match attribute {
                Attribute::Main => {
                    "without arguments: those of the command line are in `std::env::args()`"
                }
                Attribute::Test => "without arguments",
            };
            parts.push((inputs, text));
        }
        for (part, text) in &parts {
            refuse(part, &format!("`{name}` is for a function {text}"));
        }
        parts.is_empty()
    }
}

const GENERICS: &str = "without generics: nobody would choose the types";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_is_what_a_program_would_write() {
        let options = quote! {
            sq_entries = 64,
            cq_entries = 1024u32,
            timers = "heap",
            iowait = true,
            grace = SHORT / 2,
            crate = crate::coring,
        };
        let item = quote! {
            #[should_panic]
            pub(crate) async fn reads() -> io::Result<()> {
                body(of, the, function)
            }
        };
        let expected = quote! {
            #[::core::prelude::v1::test]
            #[should_panic]
            pub(crate) fn reads() -> io::Result<()> {
                async fn reads() -> io::Result<()> {
                    body(of, the, function)
                }
                crate::coring::Runner::builder()
                    .sq_entries(64)
                    .cq_entries(1024u32)
                    .timers(crate::coring::Timers::Heap)
                    .iowait(true)
                    .grace(SHORT / 2)
                    .run(reads())
            }
        };
        let function = expand(Attribute::Test, options, item);
        assert_eq!(function.to_string(), expected.to_string());
    }

    #[test]
    fn ctrl_c_is_on_in_main_unless_it_is_given() {
        let item: TokenStream = "async fn f() {}".parse().expect("a function");
        let calls = |attribute, options| {
            let function = expand(attribute, options, item.clone()).to_string();
            let calls = |of: TokenStream| function.contains(&of.to_string());
            (calls(quote!(.ctrl_c(true))), calls(quote!(.ctrl_c(false))))
        };
        let none = TokenStream::new();
        assert_eq!(calls(Attribute::Main, none.clone()), (true, false));
        assert_eq!(calls(Attribute::Test, none), (false, false));
        assert_eq!(
            calls(Attribute::Main, quote!(ctrl_c = false)),
            (false, true)
        );
        assert_eq!(calls(Attribute::Test, quote!(ctrl_c = true)), (true, false));
    }
}
