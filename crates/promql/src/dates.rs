//! Calendar of a Unix time, in UTC, without leap seconds.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// Sunday is 0.
    pub weekday: i64,
    /// 1 to 366.
    pub day_of_year: i64,
    pub days_in_month: i64,
    pub hour: i64,
    pub minute: i64,
}

impl Date {
    /// Fractions are cut off towards zero, as Prometheus does; times beyond the
    /// range of 64 bits are moved into it.
    pub fn from_seconds(seconds: f64) -> Date {
        let seconds = seconds as i64;
        let days = seconds.div_euclid(86_400);
        let second_of_day = seconds.rem_euclid(86_400);
        let (year, month, day) = civil(days);
        let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        Date {
            year,
            month,
            day,
            // The first of January 1970 was a Thursday.
            weekday: (days + 4).rem_euclid(7),
            day_of_year: days - days_of(year, 1) + 1,
            days_in_month: days_of(next_year, next_month) - days_of(year, month),
            hour: second_of_day / 3600,
            minute: second_of_day % 3600 / 60,
        }
    }
}

/// `2006-01-02T15:04:05Z`
pub(crate) fn rfc3339(seconds: i64) -> String {
    let date = Date::from_seconds(seconds as f64);
    let second = seconds.rem_euclid(60);
    let Date { year, month, day, hour, minute, .. } = date;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a count of days since 1970 (Howard Hinnant's
/// algorithm: years that begin in March, eras of 400 years).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days since 1970 of the first day of a month.
fn days_of(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: f64, expected: [i64; 8]) {
        let d = Date::from_seconds(seconds);
        let found = [d.year, d.month, d.day, d.weekday, d.day_of_year, d.days_in_month, d.hour, d.minute];
        assert_eq!(found, expected, "{seconds}");
    }

    #[test]
    fn known_dates() {
        check(0.0, [1970, 1, 1, 4, 1, 31, 0, 0]);
        check(-1.0, [1969, 12, 31, 3, 365, 31, 23, 59]);
        check(1_456_790_399.0, [2016, 2, 29, 1, 60, 29, 23, 59]);
        check(951_782_400.0, [2000, 2, 29, 2, 60, 29, 0, 0]);
        check(1_136_239_445.9, [2006, 1, 2, 1, 2, 31, 22, 4]);
    }

    #[test]
    fn dates_are_written() {
        assert_eq!(rfc3339(1_136_214_245), "2006-01-02T15:04:05Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn extremes_do_not_panic() {
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
            Date::from_seconds(seconds);
        }
    }
}
