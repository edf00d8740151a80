// What subtitles need to know of writing systems: where a text may be cut, and how wide it is. As clients/scripts.py.

export const SENTENCE_ENDS = ".?!…。？！．｡؟۔।॥។៕။";
export const CLAUSE_ENDS = ",;:，；：､、،؛၊";

/** Scripts without spaces between words, as ranges of characters. Korean's is not among them. */
const UNSPACED = [
  "\\u3005-\\u3007\\u3021-\\u3029\\u3031-\\u3035\\u3038-\\u303b\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff", // Han
  "\\u{20000}-\\u{3ffff}", // Han
  "\\u3041-\\u30ff\\u31f0-\\u31ff\\uff66-\\uff9f", // Hiragana and Katakana
  "\\u3105-\\u312f\\u31a0-\\u31bf", // Bopomofo
  "\\u0e01-\\u0e5b", // Thai
  "\\u0e81-\\u0edf", // Lao
  "\\u1000-\\u109f\\ua9e0-\\ua9fe\\uaa60-\\uaa7f", // Myanmar
  "\\u1780-\\u17e9", // Khmer
].join("");
/** Punctuation that belongs to what follows it. */
const OPENING = "(\\[\\{“‘「『（［｛《〈【〔〖〘〚｢";
/** The same where there is white space on both sides; in French « has it. */
const OPENING_ALONE = new Set("([{“‘「『（［｛《〈【〔〖〘〚｢«¿¡„‚");
/** Thai and Lao vowels that are written before the consonant they are spoken after. */
const LEADING_VOWELS = "\\u0e40-\\u0e44\\u0ec0-\\u0ec4";
/** Letters that belong to the one before: Thai and Lao vowels, marks of repetition, length and tone, small kana. */
const TRAILING =
  "\\u0e2f\\u0e30\\u0e32\\u0e33\\u0e45\\u0e46\\u0eaf\\u0eb0\\u0eb2\\u0eb3\\u0ec6\\u17d7" +
  "\\u3005\\u3031-\\u3035\\u303b\\u309d\\u309e\\u30fc-\\u30fe\\uff70\\uff9e\\uff9f\\u02c7\\u02ca\\u02cb\\u02d9" +
  "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ\\uff67-\\uff6f\\u31f0-\\u31ff";
/** Khmer's and Myanmar's signs that put the next consonant under the one before. */
const STACKING = "\\u17d2\\u1039";
/** Characters that fill two columns. */
const WIDE =
  "\\u1100-\\u115f\\u2e80-\\u303e\\u3041-\\ua4cf\\ua960-\\ua97c\\uac00-\\ud7a3\\uf900-\\ufaff\\ufe30-\\ufe6f" +
  "\\uff01-\\uff60\\uffe0-\\uffe6\\u{1f300}-\\u{1f64f}\\u{1f900}-\\u{1f9ff}\\u{20000}-\\u{3ffff}";

const LETTER = `(?=[\\p{L}\\p{Nl}\\p{No}])[${UNSPACED}]`;
const PIECE = new RegExp(
  `\\s*(?:[${OPENING}]*[${LEADING_VOWELS}]*${LETTER}` +
    `(?:[${STACKING}]${LETTER}|[${TRAILING}]|(?![${OPENING}])[^\\p{L}\\p{N}_\\s])*` +
    `|(?:(?![${OPENING}]{0,3}${LETTER})\\S)+)`,
  "gu",
);
const TRAILING_SPACE = /\s*$/u;
const HAS_WORD = /[\p{L}\p{N}]/u;
const TWO_COLUMNS = new RegExp(`[${WIDE}]`, "u");
const NO_COLUMN = /[\p{Mn}\p{Me}\p{Cf}]/u;

/**
 * A text cut between words. The pieces keep white space and punctuation: joined they are the text.
 *
 * Each has a letter or a digit, unless the whole text has none. White space comes first; only the last may end in it.
 *
 * @param {string} text
 * @returns {string[]}
 */
export function split(text) {
  const pieces = [];
  let before = "";
  for (const piece of text.match(PIECE) ?? []) {
    if (HAS_WORD.test(piece)) {
      pieces.push(before + piece);
      before = "";
    } else if (pieces.length > 0 && before === "" && ![...piece.trim()].every((char) => OPENING_ALONE.has(char))) {
      pieces[pieces.length - 1] += piece;
    } else {
      before += piece;
    }
  }
  const rest = before + TRAILING_SPACE.exec(text)[0];
  if (pieces.length > 0) pieces[pieces.length - 1] += rest;
  else if (rest.trim() !== "") pieces.push(rest);
  return pieces;
}

/** Columns that a text fills: an East Asian character fills two, a mark on another none. */
export function width(text) {
  let columns = 0;
  for (const char of text) columns += NO_COLUMN.test(char) ? 0 : TWO_COLUMNS.test(char) ? 2 : 1;
  return columns;
}
