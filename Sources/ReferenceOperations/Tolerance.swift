/// How far a float32 result may be from the float64 one, as relative L2, when each value is a sum of `terms` products.
///
/// With u = 2⁻²⁴, rounding the k-th partial sum of terms with random signs errs by at most u √k in units of a term, so
/// all K of them by u √(K²/2) in the root mean square; divided by the result's own size √K that is u √(K/2). Before
/// they are added the terms have passed at most four roundings (centre, scale, shift, product): 4u. The factor 2 is for
/// results smaller than their terms, where centre and shift partly cancel. `depth` multiplies it for operations that
/// apply several such sums to each other.
public func tolerance(terms: Int, depth: Int = 1) -> Double {
  2 * Double(depth) * ((Double(terms) / 2).squareRoot() + 4) * 0x1p-24
}
