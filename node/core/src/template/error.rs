//! What can be wrong with a template.

use crate::error::ErrorKind;

use super::Template;

/// Why a text is no [`Template`], and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse path template: column {column}: {reason}")]
pub struct TemplateError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong there, and what to do.
    pub reason: TemplateReason,
}

/// What is wrong with a template. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateReason {
    /// The template says nothing.
    #[error("the template is empty; write at least a file name such as '$title.$format'")]
    Empty,
    /// The template is longer than [`Template::LEN_MAX`].
    #[error("the template is too long; shorten it to {} bytes", Template::LEN_MAX)]
    TooLong,
    /// `%opt{%opt{…}}` beyond [`Template::DEPTH_MAX`].
    #[error("functions are nested too deep; nest at most {}", Template::DEPTH_MAX)]
    TooDeep,
    /// More `/` than [`Template::COMPONENTS_MAX`] allows.
    #[error(
        "the path has too many components; use at most {}",
        Template::COMPONENTS_MAX
    )]
    TooManyComponents,
    /// Nothing between two `/`, or before the first.
    #[error("the path has an empty component; remove this '/' or name the directory before it")]
    EmptyDirectory,
    /// Nothing after the last `/`.
    #[error("the path has no file name; write one such as '$title.$format' after the last '/'")]
    EmptyFile,
    /// A component `.` or `..`.
    #[error("'.' and '..' are no names; remove the component")]
    DotComponent,
    /// A `$` without a field.
    #[error("a field's name is missing; write '$title' or '${{title}}', or '$$' for a dollar sign")]
    NoField,
    /// `${` without `}`.
    #[error("'${{' is not closed; add '}}' after the field's name")]
    UnclosedField,
    /// A `%` without a function.
    #[error("a function's name is missing; write '%opt{{…}}', or '$%' for a percent sign")]
    NoFunction,
    /// `%function` without `{`.
    #[error("'%{name}' has no arguments; write '%{name}{{…}}', or '$%' for a percent sign")]
    NoArguments {
        /// The function.
        name: &'static str,
    },
    /// `%function{` without `}`.
    #[error("'%{name}{{' is not closed; add '}}' after its arguments")]
    UnclosedFunction {
        /// The function.
        name: &'static str,
    },
    /// A `}` that closes nothing.
    #[error("'}}' closes nothing; remove it, or write '$}}' for a brace")]
    StrayBrace,
    /// A function with too many or too few arguments.
    #[error("'%{name}' takes {takes} argument, not {found}; write '$,' for a comma")]
    ArgumentCount {
        /// The function.
        name: &'static str,
        /// How many arguments it takes.
        takes: usize,
        /// How many there are.
        found: usize,
    },
    /// A field that does not exist.
    #[error("unknown field '{name}'{}", hint(.suggestion))]
    UnknownField {
        /// The name as written, cut to a readable length.
        name: String,
        /// The field that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A function that does not exist.
    #[error("unknown function '%{name}'{}", hint(.suggestion))]
    UnknownFunction {
        /// The name as written, cut to a readable length.
        name: String,
        /// The function that looks most like it.
        suggestion: Option<&'static str>,
    },
}

impl TemplateError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

fn hint(suggestion: &Option<&'static str>) -> String {
    match suggestion {
        Some(name) => format!("; did you mean '{name}'?"),
        None => "; see the documentation for those that exist".to_owned(),
    }
}
