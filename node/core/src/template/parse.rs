//! Parsing: from a template's text to its syntax tree.

use super::field::Field;
use super::{Function, Node, Template, TemplateError, TemplateReason as Reason};

/// How much of an unknown name an error repeats, in characters.
const NAME_SHOWN_MAX: usize = 40;

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other.
const LIKENESS_MIN: f64 = 0.8;

/// See [`Template::parse`].
pub(super) fn parse(source: &str) -> Result<Vec<Node>, TemplateError> {
    if source.is_empty() {
        return fail(0, Reason::Empty);
    }
    if source.len() > Template::LEN_MAX {
        let end = source.floor_char_boundary(Template::LEN_MAX);
        return fail(source[..end].chars().count(), Reason::TooLong);
    }
    let mut parser = Parser {
        text: source.chars().collect(),
        at: 0,
        component: Component::default(),
        components_count: 1,
    };
    let nodes = parser.sequence(0)?;
    // A sequence ends early only before a brace, for beyond all functions a comma is text.
    if parser.at < parser.text.len() {
        return fail(parser.at, Reason::StrayBrace);
    }
    parser.check_component(Reason::EmptyFile)?;
    Ok(nodes)
}

struct Parser {
    text: Vec<char>,
    /// Index of the next character.
    at: usize,
    component: Component,
    components_count: usize,
}

/// The component being parsed, as it is when everything optional is printed.
#[derive(Default)]
struct Component {
    /// Its text, while there is nothing but text in it.
    literal: String,
    /// Index of its first character.
    start: usize,
    /// It prints a field, so what it will say cannot be known yet.
    has_field: bool,
}

impl Parser {
    /// Parses up to the end, to a `}`, or within a function (`depth` > 0) to a `,`; neither is
    /// consumed.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, TemplateError> {
        let mut nodes = Vec::new();
        let mut text = String::new();
        while let Some(&character) = self.text.get(self.at) {
            let literal = match character {
                '}' => break,
                ',' if depth > 0 => break,
                '$' => self.escaped(),
                '%' | '/' => None,
                _ => Some(character),
            };
            if let Some(literal) = literal {
                self.at += if character == '$' { 2 } else { 1 };
                self.component.literal.push(literal);
                text.push(literal);
                continue;
            }
            flush(&mut text, &mut nodes);
            nodes.push(match character {
                '$' => self.field()?,
                '%' => self.call(depth)?,
                _ => self.slash()?,
            });
        }
        flush(&mut text, &mut nodes);
        Ok(nodes)
    }

    /// The character that an escape at this place stands for.
    fn escaped(&self) -> Option<char> {
        let next = self.text.get(self.at + 1).copied();
        next.filter(|next| matches!(next, '$' | '%' | ',' | '}'))
    }

    fn slash(&mut self) -> Result<Node, TemplateError> {
        self.check_component(Reason::EmptyDirectory)?;
        if self.components_count == Template::COMPONENTS_MAX {
            return fail(self.at, Reason::TooManyComponents);
        }
        self.components_count += 1;
        self.at += 1;
        self.component = Component {
            start: self.at,
            ..Component::default()
        };
        Ok(Node::Slash)
    }

    /// Checks the component that ends here.
    fn check_component(&self, reason_if_empty: Reason) -> Result<(), TemplateError> {
        let Component {
            literal,
            start,
            has_field,
        } = &self.component;
        match literal.trim() {
            _ if *has_field => Ok(()),
            "" => fail(self.at, reason_if_empty),
            "." | ".." => fail(*start, Reason::DotComponent),
            _ => Ok(()),
        }
    }

    /// Parses `$field`, `${field}` or `${field|field}`.
    fn field(&mut self) -> Result<Node, TemplateError> {
        let start = self.at;
        self.at += 1;
        self.component.has_field = true;
        if self.text.get(self.at) != Some(&'{') {
            let field = self.one_field(start, is_word)?;
            return Ok(Node::Fields(vec![field]));
        }
        if !self.text[self.at..].contains(&'}') {
            return fail(start, Reason::UnclosedField);
        }
        let mut fields = Vec::new();
        loop {
            self.at += 1;
            let field = self.one_field(self.at, |c| c != '|' && c != '}')?;
            fields.push(field);
            if self.text.get(self.at) == Some(&'}') {
                self.at += 1;
                return Ok(Node::Fields(fields));
            }
        }
    }

    /// Parses a field's name; an error is reported at `column`.
    fn one_field(
        &mut self,
        start: usize,
        is_part: fn(char) -> bool,
    ) -> Result<Field, TemplateError> {
        let name = self.take_while(is_part);
        if name.is_empty() {
            return fail(start, Reason::NoField);
        }
        Field::parse(&name).ok_or_else(|| {
            let suggestion = most_alike(&name, Field::names());
            let name = shown(&name);
            error(start, Reason::UnknownField { name, suggestion })
        })
    }

    /// Parses `%function{argument,argument}`.
    fn call(&mut self, depth: usize) -> Result<Node, TemplateError> {
        let start = self.at;
        self.at += 1;
        let function = self.function(start)?;
        let name = function.name();
        if self.text.get(self.at) != Some(&'{') {
            return fail(start, Reason::NoArguments { name });
        }
        if depth == Template::DEPTH_MAX {
            return fail(start, Reason::TooDeep);
        }
        let mut arguments = Vec::new();
        loop {
            self.at += 1;
            arguments.push(self.sequence(depth + 1)?);
            match self.text.get(self.at) {
                Some(',') => {}
                Some(_) => break,
                None => return fail(start, Reason::UnclosedFunction { name }),
            }
        }
        self.at += 1;
        let (takes, found) = (function.arguments_count(), arguments.len());
        if takes != found {
            let reason = Reason::ArgumentCount { name, takes, found };
            return fail(start, reason);
        }
        Ok(Node::Call(function, arguments))
    }

    fn function(&mut self, start: usize) -> Result<Function, TemplateError> {
        let name = self.take_while(is_word);
        if name.is_empty() {
            return fail(start, Reason::NoFunction);
        }
        let mut all = Function::ALL.into_iter();
        all.find(|function| function.name() == name).ok_or_else(|| {
            let suggestion = most_alike(&name, Function::ALL.into_iter().map(Function::name));
            let name = shown(&name);
            error(start, Reason::UnknownFunction { name, suggestion })
        })
    }

    fn take_while(&mut self, is_part: fn(char) -> bool) -> String {
        let rest = self.text[self.at..].iter().copied();
        let taken: String = rest.take_while(|&c| is_part(c)).collect();
        self.at += taken.chars().count();
        taken
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn flush(text: &mut String, nodes: &mut Vec<Node>) {
    if !text.is_empty() {
        nodes.push(Node::Text(std::mem::take(text)));
    }
}

/// The name that is most like `name`, if one is at all.
fn most_alike(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name = name.to_lowercase();
    // The likeness of short names is low even for one slip: `otp`.
    let is_slip = |known: &str| strsim::damerau_levenshtein(&name, known) <= 1;
    known
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .filter(|&(likeness, known)| likeness >= LIKENESS_MIN || is_slip(known))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

/// `name` as an error can print it: short and on one line.
fn shown(name: &str) -> String {
    let start: String = name.chars().take(NAME_SHOWN_MAX).collect();
    let dots = if start.len() < name.len() { "…" } else { "" };
    format!("{}{dots}", start.escape_debug())
}

fn error(index: usize, reason: Reason) -> TemplateError {
    TemplateError {
        column: index + 1,
        reason,
    }
}

fn fail<T>(index: usize, reason: Reason) -> Result<T, TemplateError> {
    Err(error(index, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(source: &str, column: usize, reason: Reason) {
        let expect = Err(TemplateError { column, reason });
        assert_eq!(parse(source), expect, "{source:?}");
    }

    fn unknown_field(name: &str, suggestion: Option<&'static str>) -> Reason {
        let name = name.to_owned();
        Reason::UnknownField { name, suggestion }
    }

    #[test]
    fn text_and_escapes_stand_for_themselves() {
        let check = |source: &str, expect: &str| {
            let expect = vec![Node::Text(expect.to_owned())];
            assert_eq!(parse(source), Ok(expect), "{source:?}");
        };
        check("[a] {b, c", "[a] {b, c");
        check("$$1 100$% a$,b $}{", "$1 100% a,b }{");
        check("né", "né");
    }

    #[test]
    fn fields_and_functions_nest() {
        let text = |text: &str| Node::Text(text.to_owned());
        let expect = vec![
            Node::Fields(vec![Field::AlbumArtist, Field::Artist]),
            Node::Slash,
            Node::Call(
                Function::Opt,
                vec![vec![
                    Node::Fields(vec![Field::Year]),
                    text(", "),
                    Node::Call(Function::Opt, vec![vec![Node::Fields(vec![Field::Disc])]]),
                ]],
            ),
            Node::Fields(vec![Field::Title]),
            text("s"),
        ];
        let source = "${albumartist|artist}/%opt{$year$, %opt{$disc}}${title}s";
        assert_eq!(parse(source), Ok(expect));
    }

    #[test]
    fn an_unknown_name_is_found_and_a_known_one_suggested() {
        check(
            "é/$albumartits",
            3,
            unknown_field("albumartits", Some("albumartist")),
        );
        check(
            "${artist|tracknumber}",
            10,
            unknown_field("tracknumber", Some("track")),
        );
        check("$Title.$format", 1, unknown_field("Title", Some("title")));
        check("$xyzzy", 1, unknown_field("xyzzy", None));
        check("${ title}", 3, unknown_field(" title", Some("title")));
        check("${\n|", 1, Reason::UnclosedField);
        check("${\n}", 3, unknown_field("\\n", None));
        let long = "q".repeat(100);
        let cut = format!("{}…", "q".repeat(40));
        check(&format!("${long}"), 1, unknown_field(&cut, None));
        let unknown = |name: &str, suggestion| Reason::UnknownFunction {
            name: name.to_owned(),
            suggestion,
        };
        check("a %otp{$year}", 3, unknown("otp", Some("opt")));
        check("%aunique{}", 1, unknown("aunique", None));
    }

    #[test]
    fn broken_syntax_is_reported_where_it_is() {
        check("", 1, Reason::Empty);
        check("$title.$", 8, Reason::NoField);
        check("${}", 3, Reason::NoField);
        check("${title|}", 9, Reason::NoField);
        check("a ${title", 3, Reason::UnclosedField);
        check("100% $title", 4, Reason::NoFunction);
        check("%{x}", 1, Reason::NoFunction);
        check("%opt $title", 1, Reason::NoArguments { name: "opt" });
        check("a%opt{$year", 2, Reason::UnclosedFunction { name: "opt" });
        check("%opt{a,", 1, Reason::UnclosedFunction { name: "opt" });
        check("$title}", 7, Reason::StrayBrace);
        let reason = Reason::ArgumentCount {
            name: "opt",
            takes: 1,
            found: 2,
        };
        check("$title%opt{$year,x}", 7, reason);
    }

    #[test]
    fn every_component_needs_a_name() {
        check(" ", 2, Reason::EmptyFile);
        check("/$title", 1, Reason::EmptyDirectory);
        check("$artist//$title", 9, Reason::EmptyDirectory);
        check("$artist/ /$title", 10, Reason::EmptyDirectory);
        check(
            "$artist/%opt{$disc_dir/}/$title",
            25,
            Reason::EmptyDirectory,
        );
        check("$artist/", 9, Reason::EmptyFile);
        check("a/../$title", 3, Reason::DotComponent);
        check("./$title", 1, Reason::DotComponent);
        check("$artist/%opt{..}", 9, Reason::DotComponent);
        assert!(parse("$artist/..$title").is_ok());
        assert!(parse("$artist/...").is_ok());
    }

    #[test]
    fn a_template_has_limits() {
        let opts = |count: usize| format!("{}x{}", "%opt{".repeat(count), "}".repeat(count));
        assert!(parse(&opts(Template::DEPTH_MAX)).is_ok());
        let column = Template::DEPTH_MAX * "%opt{".len() + 1;
        check(&opts(Template::DEPTH_MAX + 1), column, Reason::TooDeep);

        let directories = "a/".repeat(Template::COMPONENTS_MAX - 1);
        assert!(parse(&format!("{directories}b")).is_ok());
        let column = 2 * Template::COMPONENTS_MAX;
        check(
            &format!("{directories}b/c"),
            column,
            Reason::TooManyComponents,
        );

        assert!(parse(&"é".repeat(Template::LEN_MAX / 2)).is_ok());
        let column = Template::LEN_MAX / 2 + 1;
        check(
            &"é".repeat(Template::LEN_MAX / 2 + 1),
            column,
            Reason::TooLong,
        );
    }

    #[test]
    fn an_error_says_what_to_do() {
        let check = |source: &str, expect: &str| {
            assert_eq!(parse(source).unwrap_err().to_string(), expect);
        };
        check(
            "$artist/$albm",
            "parse path template: column 9: unknown field 'albm'; did you mean 'album'?",
        );
        check(
            "%opt{$year",
            "parse path template: column 1: '%opt{' is not closed; add '}' after its arguments",
        );
        check(
            "${title",
            "parse path template: column 1: '${' is not closed; add '}' after the field's name",
        );
        check(
            "a}",
            "parse path template: column 2: '}' closes nothing; remove it, or write '$}' for a brace",
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_with_a_column(
            source in r"([$%{},/|.]|\$title|%opt\{|\$\{|\PC|\n){0,60}",
        ) {
            if let Err(error) = parse(&source) {
                prop_assert!((1..=source.chars().count() + 1).contains(&error.column));
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
