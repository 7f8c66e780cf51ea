//! Finds the time zone that people mean: an IANA name, the city of one, another city, a country with one zone, an
//! abbreviation, or a fixed offset.

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use tool::Error;

/// How many near names an error offers: enough to contain the right one, few enough to read.
const SUGGESTIONS: usize = 5;

/// Names less alike than this (Jaro-Winkler, 1 is equal) would be noise in a suggestion.
const ALIKE: f64 = 0.8;

/// A zone under the name it is answered with.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) zone: TimeZone,
}

/// Finds the zone for what was asked, or says what is near.
pub(crate) fn find(asked: &str) -> Result<Place, Error> {
    if let Some(offset) = offset(asked) {
        return Ok(Place {
            name: format!("UTC{offset}"),
            zone: TimeZone::fixed(offset),
        });
    }
    let database = TimeZoneDatabase::bundled();
    // "Tokyo, Japan" is Tokyo: what follows the comma only helps people.
    let city = asked.split(',').next().unwrap_or_default();
    let Some(name) = [asked, city]
        .into_iter()
        .find_map(|asked| named(&database, &key(asked)))
    else {
        return Err(unknown(&database, asked, &key(city)));
    };
    let zone = database
        .get(&name)
        .map_err(|_| Error::failed(format!("the time zone database of this tool has no {name}")))?;
    Ok(Place { name, zone })
}

/// A name as it is compared: lower case, `_` and `-` as spaces, accents off the letters that city names use.
fn key(name: &str) -> String {
    let plain = |letter: char| match letter {
        'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' | 'ā' => 'a',
        'é' | 'è' | 'ê' | 'ë' | 'ē' => 'e',
        'í' | 'ì' | 'î' | 'ï' | 'ı' => 'i',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' => 'o',
        'ú' | 'ù' | 'û' | 'ü' | 'ū' => 'u',
        'ç' => 'c',
        'ñ' => 'n',
        'ş' => 's',
        'ł' => 'l',
        '_' | '-' => ' ',
        other => other,
    };
    name.trim()
        .chars()
        .flat_map(char::to_lowercase)
        .map(plain)
        .filter(|letter| *letter != '.')
        .collect()
}

fn named(database: &TimeZoneDatabase, wanted: &str) -> Option<String> {
    let alias = || {
        ALIASES
            .iter()
            .find(|(alias, _)| *alias == wanted)
            .map(|(_, zone)| (*zone).to_owned())
    };
    let whole = || names(database).find(|name| key(name) == wanted);
    // Of "America/Louisville" and "America/Kentucky/Louisville" the shorter one; both are the same zone.
    let city = || {
        names(database)
            .filter(|name| city_of(name) == wanted)
            .min_by_key(String::len)
    };
    if wanted.is_empty() {
        None
    } else {
        alias().or_else(whole).or_else(city)
    }
}

fn names(database: &TimeZoneDatabase) -> impl Iterator<Item = String> {
    database.available().map(|name| name.to_string())
}

/// The city in "America/New_York", as a key.
fn city_of(name: &str) -> String {
    key(name.rsplit('/').next().unwrap_or(name))
}

/// "+05:30", "-3", "UTC+2", "GMT-04:00".
fn offset(asked: &str) -> Option<Offset> {
    let asked = asked.trim().to_ascii_uppercase();
    let digits = asked
        .strip_prefix("UTC")
        .or_else(|| asked.strip_prefix("GMT"))
        .unwrap_or(&asked)
        .trim();
    let (sign, digits) = match (digits.strip_prefix('+'), digits.strip_prefix(['-', '−'])) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..=14).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

fn unknown(database: &TimeZoneDatabase, asked: &str, wanted: &str) -> Error {
    let aliases = ALIASES
        .iter()
        .map(|(alias, zone)| (alias.to_string(), zone.to_string()));
    let cities = names(database).map(|name| (city_of(&name), name));
    let whole = names(database).map(|name| (key(&name), name));
    let mut near: Vec<(f64, String)> = aliases
        .chain(cities)
        .chain(whole)
        .map(|(key, name)| (likeness(&key, wanted), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut suggestions: Vec<String> = Vec::new();
    for (_, name) in near {
        if suggestions.len() < SUGGESTIONS && !suggestions.contains(&name) {
            suggestions.push(name);
        }
    }
    let asked: String = asked.chars().take(64).collect();
    if suggestions.is_empty() {
        Error::invalid(format!(
            "no time zone or city called {asked:?} is known; use an IANA name such as Europe/Berlin, the largest city nearby, or \
             an offset such as +02:00"
        ))
    } else {
        Error::invalid(format!(
            "no time zone or city called {asked:?} is known; near it: {}",
            suggestions.join(", ")
        ))
    }
}

fn likeness(known: &str, wanted: &str) -> f64 {
    let contained = wanted.len() >= 4 && known.contains(wanted);
    if contained {
        1.0
    } else {
        strsim::jaro_winkler(known, wanted)
    }
}

/// Names that people use and the IANA database does not have. Abbreviations mean the place, daylight saving included:
/// who asks for "PST" in July wants to know what clocks in Los Angeles show.
const ALIASES: &[(&str, &str)] = &[
    ("z", "UTC"),
    ("gmt", "UTC"),
    ("universal time", "UTC"),
    ("cet", "Europe/Berlin"),
    ("cest", "Europe/Berlin"),
    ("bst", "Europe/London"),
    ("est", "America/New_York"),
    ("edt", "America/New_York"),
    ("et", "America/New_York"),
    ("cst", "America/Chicago"),
    ("cdt", "America/Chicago"),
    ("ct", "America/Chicago"),
    ("mst", "America/Denver"),
    ("mdt", "America/Denver"),
    ("mt", "America/Denver"),
    ("pst", "America/Los_Angeles"),
    ("pdt", "America/Los_Angeles"),
    ("pt", "America/Los_Angeles"),
    ("ist", "Asia/Kolkata"),
    ("jst", "Asia/Tokyo"),
    ("kst", "Asia/Seoul"),
    ("aest", "Australia/Sydney"),
    ("aedt", "Australia/Sydney"),
    ("new york city", "America/New_York"),
    ("nyc", "America/New_York"),
    ("boston", "America/New_York"),
    ("washington", "America/New_York"),
    ("washington dc", "America/New_York"),
    ("miami", "America/New_York"),
    ("atlanta", "America/New_York"),
    ("philadelphia", "America/New_York"),
    ("orlando", "America/New_York"),
    ("houston", "America/Chicago"),
    ("dallas", "America/Chicago"),
    ("austin", "America/Chicago"),
    ("san antonio", "America/Chicago"),
    ("new orleans", "America/Chicago"),
    ("minneapolis", "America/Chicago"),
    ("nashville", "America/Chicago"),
    ("salt lake city", "America/Denver"),
    ("san francisco", "America/Los_Angeles"),
    ("sf", "America/Los_Angeles"),
    ("la", "America/Los_Angeles"),
    ("san diego", "America/Los_Angeles"),
    ("san jose", "America/Los_Angeles"),
    ("silicon valley", "America/Los_Angeles"),
    ("california", "America/Los_Angeles"),
    ("seattle", "America/Los_Angeles"),
    ("portland", "America/Los_Angeles"),
    ("las vegas", "America/Los_Angeles"),
    ("hawaii", "Pacific/Honolulu"),
    ("ottawa", "America/Toronto"),
    ("montreal", "America/Toronto"),
    ("quebec", "America/Toronto"),
    ("calgary", "America/Edmonton"),
    ("guadalajara", "America/Mexico_City"),
    ("rio de janeiro", "America/Sao_Paulo"),
    ("brasilia", "America/Sao_Paulo"),
    ("quito", "America/Guayaquil"),
    ("medellin", "America/Bogota"),
    ("edinburgh", "Europe/London"),
    ("manchester", "Europe/London"),
    ("glasgow", "Europe/London"),
    ("cambridge", "Europe/London"),
    ("oxford", "Europe/London"),
    ("england", "Europe/London"),
    ("uk", "Europe/London"),
    ("united kingdom", "Europe/London"),
    ("munich", "Europe/Berlin"),
    ("hamburg", "Europe/Berlin"),
    ("frankfurt", "Europe/Berlin"),
    ("cologne", "Europe/Berlin"),
    ("stuttgart", "Europe/Berlin"),
    ("leipzig", "Europe/Berlin"),
    ("germany", "Europe/Berlin"),
    ("geneva", "Europe/Zurich"),
    ("basel", "Europe/Zurich"),
    ("bern", "Europe/Zurich"),
    ("switzerland", "Europe/Zurich"),
    ("salzburg", "Europe/Vienna"),
    ("graz", "Europe/Vienna"),
    ("austria", "Europe/Vienna"),
    ("lyon", "Europe/Paris"),
    ("marseille", "Europe/Paris"),
    ("nice", "Europe/Paris"),
    ("toulouse", "Europe/Paris"),
    ("france", "Europe/Paris"),
    ("barcelona", "Europe/Madrid"),
    ("valencia", "Europe/Madrid"),
    ("seville", "Europe/Madrid"),
    ("spain", "Europe/Madrid"),
    ("milan", "Europe/Rome"),
    ("naples", "Europe/Rome"),
    ("turin", "Europe/Rome"),
    ("florence", "Europe/Rome"),
    ("venice", "Europe/Rome"),
    ("italy", "Europe/Rome"),
    ("rotterdam", "Europe/Amsterdam"),
    ("the hague", "Europe/Amsterdam"),
    ("netherlands", "Europe/Amsterdam"),
    ("antwerp", "Europe/Brussels"),
    ("belgium", "Europe/Brussels"),
    ("gothenburg", "Europe/Stockholm"),
    ("sweden", "Europe/Stockholm"),
    ("norway", "Europe/Oslo"),
    ("denmark", "Europe/Copenhagen"),
    ("finland", "Europe/Helsinki"),
    ("porto", "Europe/Lisbon"),
    ("krakow", "Europe/Warsaw"),
    ("gdansk", "Europe/Warsaw"),
    ("wroclaw", "Europe/Warsaw"),
    ("brno", "Europe/Prague"),
    ("czechia", "Europe/Prague"),
    ("greece", "Europe/Athens"),
    ("hungary", "Europe/Budapest"),
    ("romania", "Europe/Bucharest"),
    ("ireland", "Europe/Dublin"),
    ("kyiv", "Europe/Kyiv"),
    ("lviv", "Europe/Kyiv"),
    ("ukraine", "Europe/Kyiv"),
    ("saint petersburg", "Europe/Moscow"),
    ("st petersburg", "Europe/Moscow"),
    ("ankara", "Europe/Istanbul"),
    ("izmir", "Europe/Istanbul"),
    ("tel aviv", "Asia/Jerusalem"),
    ("haifa", "Asia/Jerusalem"),
    ("abu dhabi", "Asia/Dubai"),
    ("uae", "Asia/Dubai"),
    ("doha", "Asia/Qatar"),
    ("mecca", "Asia/Riyadh"),
    ("jeddah", "Asia/Riyadh"),
    ("islamabad", "Asia/Karachi"),
    ("lahore", "Asia/Karachi"),
    ("mumbai", "Asia/Kolkata"),
    ("bombay", "Asia/Kolkata"),
    ("delhi", "Asia/Kolkata"),
    ("new delhi", "Asia/Kolkata"),
    ("bangalore", "Asia/Kolkata"),
    ("bengaluru", "Asia/Kolkata"),
    ("hyderabad", "Asia/Kolkata"),
    ("chennai", "Asia/Kolkata"),
    ("pune", "Asia/Kolkata"),
    ("india", "Asia/Kolkata"),
    ("beijing", "Asia/Shanghai"),
    ("shenzhen", "Asia/Shanghai"),
    ("guangzhou", "Asia/Shanghai"),
    ("chengdu", "Asia/Shanghai"),
    ("hangzhou", "Asia/Shanghai"),
    ("china", "Asia/Shanghai"),
    ("osaka", "Asia/Tokyo"),
    ("kyoto", "Asia/Tokyo"),
    ("yokohama", "Asia/Tokyo"),
    ("nagoya", "Asia/Tokyo"),
    ("sapporo", "Asia/Tokyo"),
    ("busan", "Asia/Seoul"),
    ("korea", "Asia/Seoul"),
    ("south korea", "Asia/Seoul"),
    ("hanoi", "Asia/Ho_Chi_Minh"),
    ("vietnam", "Asia/Ho_Chi_Minh"),
    ("phuket", "Asia/Bangkok"),
    ("thailand", "Asia/Bangkok"),
    ("bali", "Asia/Makassar"),
    ("canberra", "Australia/Sydney"),
    ("wellington", "Pacific/Auckland"),
    ("christchurch", "Pacific/Auckland"),
    ("new zealand", "Pacific/Auckland"),
    ("cape town", "Africa/Johannesburg"),
    ("durban", "Africa/Johannesburg"),
    ("pretoria", "Africa/Johannesburg"),
    ("south africa", "Africa/Johannesburg"),
    ("alexandria", "Africa/Cairo"),
    ("marrakesh", "Africa/Casablanca"),
    ("rabat", "Africa/Casablanca"),
    ("abuja", "Africa/Lagos"),
    ("nigeria", "Africa/Lagos"),
    ("mombasa", "Africa/Nairobi"),
    ("kenya", "Africa/Nairobi"),
];
