//! The part of the language that templates may use. What could make something large out of something small, or run deep,
//! is refused before anything is compiled: also compiling it would fold constants and recurse.

use std::collections::BTreeMap;

use carillon_domain::ports::{TemplateFault, TemplateSource};
use minijinja::machinery::{
    Token,
    ast::{BinOpKind, Call, CallArg, CallType, CompareOpKind, Expr, Stmt},
    parse, tokenize,
};

use super::{
    fault::{engine_fault, fault, fault_at},
    filters::{FILTERS, FUNCTIONS, TESTS},
    forms::Form,
};

/// Tokens in one pair of braces: expressions nest with them, natively.
const MAX_TOKENS: usize = 100;

/// Brackets within brackets.
const MAX_BRACKETS: usize = 16;

/// `if`, `for` and `with` within each other.
const MAX_NESTED: usize = 32;

/// `not`, `-` and `if` as operators in one pair of braces: each nests, however it is written.
const MAX_PREFIXES: usize = 16;

/// `elif` in one source: each nests in the one before.
const MAX_ELIF: usize = 30;

/// Names that one source may give to values: each keeps a value alive.
const MAX_NAMES: usize = 200;

/// Pairs of braces in one source.
const MAX_TAGS: usize = 5_000;

/// Lines of one source, and bytes of one line.
const MAX_LINES: usize = 20_000;
const MAX_LINE: usize = 32 * 1024;

/// Faults of one source that are told.
const MAX_FAULTS: usize = 8;

/// Parsed forms and partials.
pub(super) struct Grammar<'a> {
    parsed: BTreeMap<String, Result<Stmt<'a>, TemplateFault>>,
}

impl<'a> Grammar<'a> {
    /// Parses everything.
    pub(super) fn new(source: &'a TemplateSource) -> Self {
        let mut parsed = BTreeMap::new();
        for form in Form::ALL {
            if let Some(text) = form.source(source) {
                parsed.insert(form.pointer().to_owned(), read(form.pointer(), text));
            }
        }
        for (name, text) in &source.partials {
            let pointer = format!("/partials/{name}");
            let read = read(&pointer, text);
            parsed.insert(pointer, read);
        }
        Self { parsed }
    }

    /// What a form or partial says, where it can be read.
    pub(super) fn statements(&self, pointer: &str) -> Option<&[Stmt<'a>]> {
        match self.parsed.get(pointer) {
            Some(Ok(Stmt::Template(template))) => Some(&template.children),
            _ => None,
        }
    }

    /// Everything that is not allowed.
    pub(super) fn faults(&self) -> Vec<TemplateFault> {
        let mut faults = Vec::new();
        let mut includes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (pointer, read) in &self.parsed {
            let statement = match read {
                Ok(statement) => statement,
                Err(fault) => {
                    faults.push(fault.clone());
                    continue;
                }
            };
            let mut walk = Walk {
                grammar: self,
                form: pointer,
                names: 0,
                faults: Vec::new(),
                includes: Vec::new(),
            };
            walk.statement(statement);
            walk.faults.truncate(MAX_FAULTS);
            faults.append(&mut walk.faults);
            includes.insert(pointer, walk.includes);
        }
        if let Some(pointer) = circle(&includes) {
            faults.push(fault(pointer, "includes itself"));
        }
        faults
    }
}

/// Parses, once it is sure that neither parsing nor compiling runs deep.
fn read<'a>(pointer: &str, text: &'a str) -> Result<Stmt<'a>, TemplateFault> {
    // The tokenizer counts lines and columns in sixteen bits.
    for (index, line) in text.lines().enumerate() {
        if index >= MAX_LINES || line.len() > MAX_LINE {
            let most = format!("at most {MAX_LINES} lines of at most {MAX_LINE} bytes");
            return Err(fault_at(pointer, index + 1, most));
        }
    }
    let mut depth = Depth::default();
    for token in tokenize(text, false, Default::default()) {
        let (token, span) = token.map_err(|error| engine_fault(pointer, 0, &error))?;
        depth
            .step(&token)
            .map_err(|detail| fault_at(pointer, usize::from(span.start_line), detail))?;
    }
    // The parser wants a name of the source's lifetime; faults are given ours.
    parse(text, "/", Default::default()).map_err(|error| {
        let said = engine_fault(pointer, 0, &error);
        fault(pointer, said.detail)
    })
}

/// How deep what was read so far nests, at the most.
#[derive(Default)]
struct Depth {
    tags: usize,
    elif: usize,
    nested: usize,
    tokens: usize,
    brackets: usize,
    prefixes: usize,
    /// Whether the tag's first word comes next.
    first: bool,
}

impl Depth {
    fn step(&mut self, token: &Token<'_>) -> Result<(), String> {
        let first = std::mem::take(&mut self.first);
        match token {
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => return Ok(()),
            Token::VariableStart | Token::BlockStart => {
                self.tags += 1;
                (self.tokens, self.brackets, self.prefixes) = (0, 0, 0);
                self.first = matches!(token, Token::BlockStart);
            }
            Token::Ident("if" | "for" | "with") if first => self.nested += 1,
            Token::Ident("endif" | "endfor" | "endwith") if first => {
                self.nested = self.nested.saturating_sub(1)
            }
            Token::Ident("elif") if first => self.elif += 1,
            Token::Ident("not" | "if") | Token::Minus => self.prefixes += 1,
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => self.brackets += 1,
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                self.brackets = self.brackets.saturating_sub(1);
            }
            _ => {}
        }
        self.tokens += 1;
        for (count, most, what) in [
            (self.tokens, MAX_TOKENS, "words and signs in one expression"),
            (self.brackets, MAX_BRACKETS, "brackets within brackets"),
            (
                self.prefixes,
                MAX_PREFIXES,
                "times not, - or if in one expression",
            ),
            (self.nested, MAX_NESTED, "times if, for or with within each other"),
            (self.elif, MAX_ELIF, "times elif"),
            (self.tags, MAX_TAGS, "tags"),
        ] {
            if count > most {
                return Err(format!("more than {most} {what}"));
            }
        }
        Ok(())
    }
}

struct Walk<'w, 'a> {
    grammar: &'w Grammar<'a>,
    form: &'w str,
    names: usize,
    faults: Vec<TemplateFault>,
    includes: Vec<String>,
}

impl<'a> Walk<'_, 'a> {
    fn fault(&mut self, line: u16, detail: impl std::fmt::Display) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault_at(self.form, usize::from(line), detail));
        }
    }

    fn body(&mut self, statements: &[Stmt<'a>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Template(template) => self.body(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(each) => {
                if each.recursive {
                    self.fault(each.span().start_line, "a loop must not be recursive");
                }
                self.target(&each.target);
                self.expression(&each.iter);
                if let Some(filter) = &each.filter_expr {
                    self.expression(filter);
                }
                self.body(&each.body);
                self.body(&each.else_body);
            }
            Stmt::IfCond(branch) => {
                self.expression(&branch.expr);
                self.body(&branch.true_body);
                self.body(&branch.false_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.target(target);
                    self.expression(value);
                }
                self.body(&with.body);
            }
            Stmt::Set(set) => {
                self.target(&set.target);
                self.expression(&set.expr);
            }
            Stmt::Include(include) => {
                let line = include.span().start_line;
                let name = match &include.name {
                    Expr::Const(name) => name.value.as_str(),
                    _ => None,
                };
                let pointer = name.map(|name| format!("/partials/{name}"));
                match pointer.filter(|pointer| self.grammar.parsed.contains_key(pointer)) {
                    Some(pointer) => self.includes.push(pointer),
                    None => self.fault(line, "include takes the name of a partial, in quotes"),
                }
            }
            Stmt::SetBlock(it) => self.refused(it.span().start_line, "set with a block"),
            Stmt::AutoEscape(it) => self.refused(it.span().start_line, "autoescape"),
            Stmt::FilterBlock(it) => self.refused(it.span().start_line, "filter with a block"),
            Stmt::Block(it) => self.refused(it.span().start_line, "block"),
            Stmt::Import(it) => self.refused(it.span().start_line, "import"),
            Stmt::FromImport(it) => self.refused(it.span().start_line, "import"),
            Stmt::Extends(it) => self.refused(it.span().start_line, "extends"),
            Stmt::Macro(it) => self.refused(it.span().start_line, "macro"),
            Stmt::CallBlock(it) => self.refused(it.span().start_line, "call"),
            Stmt::Do(it) => self.refused(it.span().start_line, "do"),
        }
    }

    fn refused(&mut self, line: u16, what: &str) {
        self.fault(line, format!("{what} is not available in templates"));
    }

    fn target(&mut self, target: &Expr<'a>) {
        let line = target.span().start_line;
        match target {
            Expr::Var(_) => self.names += 1,
            Expr::List(list) => {
                for item in &list.items {
                    self.target(item);
                }
            }
            Expr::Tuple(tuple) => {
                for item in &tuple.items {
                    self.target(item);
                }
            }
            _ => self.fault(line, "only a plain name can be given a value"),
        }
        if self.names == MAX_NAMES + 1 {
            self.fault(line, format!("more than {MAX_NAMES} names are given values"));
        }
    }

    fn expression(&mut self, expression: &Expr<'a>) {
        let line = expression.span().start_line;
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            // Cutting text costs what the text is long, and only steps would be paid.
            Expr::Slice(_) => self.fault(line, "cut lists with the filter limit, text with truncate"),
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => {
                let hint = match operation.op {
                    BinOpKind::In => search(&operation.right),
                    BinOpKind::Mul | BinOpKind::Pow => Some("multiply numbers with the filter times"),
                    BinOpKind::Concat => {
                        Some("write values one after the other, or put them together with concat(a, b)")
                    }
                    BinOpKind::Add if !is_number(&operation.left) && !is_number(&operation.right) => {
                        Some("add numbers with the filter plus, put text together with concat(a, b)")
                    }
                    _ => None,
                };
                if let Some(hint) = hint {
                    self.fault(line, hint);
                }
                self.expression(&operation.left);
                self.expression(&operation.right);
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                for part in &compare.ops {
                    if let CompareOpKind::In | CompareOpKind::NotIn = part.op
                        && let Some(hint) = search(&part.expr)
                    {
                        self.fault(line, hint);
                    }
                    self.expression(&part.expr);
                }
            }
            Expr::IfExpr(branch) => {
                self.expression(&branch.test_expr);
                self.expression(&branch.true_expr);
                if let Some(other) = &branch.false_expr {
                    self.expression(other);
                }
            }
            Expr::Filter(filter) => {
                if !FILTERS.contains(&filter.name) {
                    self.fault(line, format!("there is no filter {}", filter.name));
                }
                if let Some(value) = &filter.expr {
                    self.expression(value);
                }
                self.arguments(line, &filter.args);
            }
            Expr::Test(test) => {
                if !TESTS.contains(&test.name) {
                    self.fault(line, format!("there is no test {}", test.name));
                }
                self.expression(&test.expr);
                self.arguments(line, &test.args);
            }
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => {
                self.expression(&item.expr);
                self.expression(&item.subscript_expr);
            }
            Expr::Call(call) => self.call(line, call),
            Expr::List(list) => self.constants(line, &list.items),
            Expr::Tuple(tuple) => self.constants(line, &tuple.items),
            Expr::Map(_) => self.refused(line, "an object in a template"),
        }
    }

    fn call(&mut self, line: u16, call: &Call<'a>) {
        match call.identify_call() {
            CallType::Function(name) if FUNCTIONS.contains(&name) => {}
            CallType::Function(name) => self.fault(line, format!("there is no function {name}")),
            CallType::Method(..) | CallType::Block(_) | CallType::Object(_) => {
                self.fault(line, "values have no functions of their own: use a filter");
            }
        }
        self.arguments(line, &call.args);
    }

    fn arguments(&mut self, line: u16, arguments: &[CallArg<'a>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expression(value),
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                    self.fault(line, "arguments are written out one by one");
                }
            }
        }
    }

    /// A list of constants costs what it says; one of variables could hold itself many times over.
    fn constants(&mut self, line: u16, items: &[Expr<'a>]) {
        if !items.iter().all(|item| matches!(item, Expr::Const(_))) {
            self.fault(line, "a list in a template holds only constants");
        }
    }
}

/// Searching costs what is searched, and only a step would be paid: a constant is short.
fn search(within: &Expr<'_>) -> Option<&'static str> {
    match within {
        Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) => None,
        _ => Some("search in values with the filter contains"),
    }
}

fn is_number(expression: &Expr<'_>) -> bool {
    matches!(expression, Expr::Const(constant) if constant.value.is_number())
}

/// One that comes back to itself, if any does.
fn circle<'i>(includes: &BTreeMap<&'i str, Vec<String>>) -> Option<&'i str> {
    // Take away what includes nothing that is left, until nothing moves.
    let mut left: BTreeMap<&str, &Vec<String>> = includes.iter().map(|(from, to)| (*from, to)).collect();
    loop {
        let before = left.len();
        let names: Vec<&str> = left.keys().copied().collect();
        left.retain(|_, to| to.iter().any(|to| names.contains(&to.as_str())));
        if left.len() == before {
            return left.into_keys().next();
        }
    }
}
