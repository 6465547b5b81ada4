//! Numbers: calculating with them, and printing them for people.

use minijinja::{Error, Value};

use super::text::invalid;

/// Decimals that a number is printed with at the most.
const MAX_DECIMALS: usize = 12;

/// The longest separator in bytes: a narrow no-break space has three.
const MAX_SEPARATOR: usize = 4;

/// `{{ price|times(quantity) }}`.
pub(super) fn times(left: &Value, right: &Value) -> Result<Value, Error> {
    calculate(left, right, i64::checked_mul, |left, right| left * right)
}

/// `{{ net|plus(tax) }}`.
pub(super) fn plus(left: &Value, right: &Value) -> Result<Value, Error> {
    calculate(left, right, i64::checked_add, |left, right| left + right)
}

/// `{{ 1234567.891|number(2, ".", ",") }}` is `1.234.567,89`; without arguments the decimals stay as they are, with `,`
/// between thousands and `.` before decimals.
pub(super) fn number(
    value: &Value,
    decimals: Option<usize>,
    thousands: Option<&str>,
    point: Option<&str>,
) -> Result<String, Error> {
    let (thousands, point) = (thousands.unwrap_or(","), point.unwrap_or("."));
    if decimals.is_some_and(|decimals| decimals > MAX_DECIMALS) {
        return Err(invalid(format!("number prints at most {MAX_DECIMALS} decimals")));
    }
    if thousands.len() > MAX_SEPARATOR || point.len() > MAX_SEPARATOR {
        return Err(invalid(format!("a separator is at most {MAX_SEPARATOR} bytes")));
    }
    let plain = match (value.as_i64(), decimals) {
        (Some(whole), None | Some(0)) => whole.to_string(),
        (Some(whole), Some(decimals)) => format!("{whole}.{:0<decimals$}", ""),
        (None, _) => {
            let number = float(value)?;
            match decimals {
                Some(decimals) => format!("{number:.decimals$}"),
                None => number.to_string(),
            }
        }
    };
    let (sign, digits) = match plain.strip_prefix('-') {
        // Rounded to nothing, a negative number is just nothing.
        Some(digits) if digits.bytes().any(|byte| matches!(byte, b'1'..=b'9')) => ("-", digits),
        Some(digits) => ("", digits),
        None => ("", &*plain),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let mut printed = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            printed.push_str(thousands);
        }
        printed.push(digit);
    }
    if let Some(fraction) = fraction {
        printed.push_str(point);
        printed.push_str(fraction);
    }
    Ok(printed)
}

fn calculate(
    left: &Value,
    right: &Value,
    whole: fn(i64, i64) -> Option<i64>,
    real: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return whole(left, right)
            .map(Value::from)
            .ok_or_else(|| invalid("the number is too large"));
    }
    let result = real(float(left)?, float(right)?);
    if result.is_finite() {
        Ok(Value::from(result))
    } else {
        Err(invalid("the number is too large"))
    }
}

fn float(value: &Value) -> Result<f64, Error> {
    if !value.is_number() {
        return Err(invalid(format!("expected a number, got a {}", value.kind())));
    }
    let number = f64::try_from(value.clone())?;
    if number.is_finite() {
        Ok(number)
    } else {
        Err(invalid("the number is not finite"))
    }
}
