//! Sections of a Markdown page: the bench and the soak write the same page, and each leaves the other's part as it is.

/// The section with this heading (`## ...`), its heading included, up to the next of its rank.
pub(crate) fn of<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
    let begin = at(page, heading)?;
    let rest = &page[begin + heading.len()..];
    let length = rest.find("\n## ").map_or(rest.len(), |end| end + 1);
    Some(&page[begin..begin + heading.len() + length])
}

/// The page with this section instead of the one with its heading; without one it is put before the section `before`, or
/// last.
pub(crate) fn put(page: &str, heading: &str, section: &str, before: &str) -> String {
    let section = format!("{}\n\n", section.trim_end());
    if let Some(old) = of(page, heading) {
        return page.replacen(old, &section, 1).trim_end().to_owned() + "\n";
    }
    match at(page, before) {
        Some(place) => format!("{}{section}{}", &page[..place], &page[place..]),
        None => format!("{}\n\n{}\n", page.trim_end(), section.trim_end()),
    }
}

/// Where the line begins that is this heading.
fn at(page: &str, heading: &str) -> Option<usize> {
    let mut from = 0;
    for line in page.split_inclusive('\n') {
        if line.trim_end() == heading {
            return Some(from);
        }
        from += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n## Soak\n\nold\n\n## How\n\nso\n";

    #[test]
    fn a_section_ends_where_the_next_begins() {
        assert_eq!(of(PAGE, "## Soak"), Some("## Soak\n\nold\n\n"));
        assert_eq!(of(PAGE, "## How"), Some("## How\n\nso\n"));
        assert_eq!(of(PAGE, "## So"), None);
    }

    #[test]
    fn a_section_is_replaced_put_in_its_place_or_put_last() {
        let soaked = put(PAGE, "## Soak", "## Soak\n\nnew\n", "## How");
        assert_eq!(soaked, "# Page\n\n## Soak\n\nnew\n\n## How\n\nso\n");
        let page = "# Page\n\n## How\n\nso\n";
        assert_eq!(put(page, "## Soak", "## Soak\n\nnew\n", "## How"), soaked);
        assert_eq!(
            put("# Page\n", "## Soak", "## Soak\n\nnew", "## How"),
            "# Page\n\n## Soak\n\nnew\n"
        );
    }
}
