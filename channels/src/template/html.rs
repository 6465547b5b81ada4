//! Whether escaping is enough at each place where an HTML form prints a value. Escaping makes text of a value; it does not
//! make an address harmless, nor a script, nor a value without quotes. There a filter of ours is asked for, or nothing
//! may be printed.

use std::collections::HashMap;

use carillon_domain::ports::TemplateFault;
use minijinja::machinery::ast::{Expr, Stmt};

use super::{
    fault::{fault, fault_at},
    forms::Form,
    grammar::Grammar,
    place::{Allowed, Place},
};

/// Statements that are followed at the most, partials counted wherever they are included.
const MAX_STEPS: usize = 100_000;

/// Bytes of text that are followed at the most. What is followed again from the same place is known already, so a source
/// costs about its own length; this bounds those that come to the same text at ever new places.
const MAX_FOLLOWED: usize = 2 * 1024 * 1024;

/// What is wrong with the HTML form, if there is one. What it includes exists, and not in circles.
pub(super) fn check(grammar: &Grammar<'_>) -> Option<TemplateFault> {
    let form = Form::Html.pointer();
    let statements = grammar.statements(form)?;
    let mut follow = Follow {
        grammar,
        steps: 0,
        followed: 0,
        known: HashMap::new(),
    };
    match follow.body(form, Place::Text, statements) {
        Ok(Place::Text) => None,
        Ok(Place::Lost) => Some(fault(form, "in a comment, put spaces around a value")),
        Ok(_) => Some(fault(form, "ends within a tag, a comment or a script")),
        Err(fault) => Some(fault),
    }
}

/// How often a loop's body can come to begin at another place: what an address begins with is judged in four steps.
const MAX_ROUNDS: usize = 5;

struct Follow<'w, 'a> {
    grammar: &'w Grammar<'a>,
    steps: usize,
    followed: usize,
    /// Where a body leads that begins at a place. A body is known by where it stands in memory: statements are borrowed
    /// for as long as this lives.
    known: HashMap<(*const Stmt<'a>, Place), Place>,
}

impl<'w, 'a> Follow<'w, 'a> {
    fn body(&mut self, form: &str, place: Place, statements: &'w [Stmt<'a>]) -> Result<Place, TemplateFault> {
        if statements.is_empty() {
            return Ok(place);
        }
        let at = (statements.as_ptr(), place);
        if let Some(place) = self.known.get(&at) {
            return Ok(place.clone());
        }
        let mut place = at.1.clone();
        for statement in statements {
            place = self.statement(form, place, statement)?;
        }
        self.known.insert(at, place.clone());
        Ok(place)
    }

    fn statement(
        &mut self,
        form: &str,
        place: Place,
        statement: &'w Stmt<'a>,
    ) -> Result<Place, TemplateFault> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(fault(form, "includes too much"));
        }
        match statement {
            Stmt::EmitRaw(raw) => self.text(form, place, raw.raw),
            Stmt::EmitExpr(emit) => self.printed(form, place, emit.span().start_line, &emit.expr),
            Stmt::ForLoop(each) => {
                let line = each.span().start_line;
                // Each time round it may begin elsewhere, until it begins where it began before.
                let mut joined = place.clone();
                for _ in 0..MAX_ROUNDS {
                    let began = joined.clone();
                    let once = self.body(form, joined.clone(), &each.body)?;
                    joined = self.join(form, line, joined, once)?;
                    if joined == began {
                        break;
                    }
                }
                // Nothing to loop over.
                let other = self.body(form, place, &each.else_body)?;
                self.join(form, line, joined, other)
            }
            Stmt::IfCond(branch) => {
                let one = self.body(form, place.clone(), &branch.true_body)?;
                let other = self.body(form, place, &branch.false_body)?;
                self.join(form, branch.span().start_line, one, other)
            }
            Stmt::WithBlock(with) => self.body(form, place, &with.body),
            Stmt::Include(include) => {
                let Expr::Const(name) = &include.name else {
                    return Ok(place);
                };
                let pointer = format!("/partials/{}", name.value.as_str().unwrap_or_default());
                let grammar = self.grammar;
                match grammar.statements(&pointer) {
                    Some(statements) => self.body(&pointer, place, statements),
                    None => Ok(place),
                }
            }
            // The others print nothing, or are not allowed.
            _ => Ok(place),
        }
    }

    fn join(&self, form: &str, line: u16, one: Place, other: Place) -> Result<Place, TemplateFault> {
        one.join(other).ok_or_else(|| {
            fault_at(
                form,
                usize::from(line),
                "what is printed or not printed here must begin and end at the same place of the HTML: both in text, or \
                 both in the same value",
            )
        })
    }

    /// Follows text of the template's own.
    fn text(&mut self, form: &str, place: Place, text: &str) -> Result<Place, TemplateFault> {
        self.followed += text.len();
        if self.followed > MAX_FOLLOWED {
            return Err(fault(form, "includes too much"));
        }
        Ok(place.after(text))
    }

    fn printed(
        &mut self,
        form: &str,
        place: Place,
        line: u16,
        expression: &Expr<'_>,
    ) -> Result<Place, TemplateFault> {
        let filter = match expression {
            Expr::Filter(filter) => Some(filter.name),
            _ => None,
        };
        // A constant is the template's own text.
        if let Expr::Const(constant) = expression
            && let Some(text) = constant.value.as_str()
            && !text.contains(['<', '>', '"', '\'', '&'])
        {
            return self.text(form, place, text);
        }
        let refused = |detail: &str| Err(fault_at(form, usize::from(line), detail));
        match place.allows() {
            Allowed::Anything => Ok(place.after_value(filter == Some("safe_url"))),
            Allowed::Filtered(filters) if filter.is_some_and(|filter| filters.contains(&filter)) => {
                Ok(place.after_value(filter == Some("safe_url")))
            }
            Allowed::Filtered(filters) => refused(&format!(
                "a value here needs the filter {} at its end",
                filters.join(" or ")
            )),
            Allowed::Nothing(reason) => refused(reason),
        }
    }
}
