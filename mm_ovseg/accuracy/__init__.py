"""Accuracy and areas of a class map from a probability sample of its pixels: drawing one, and estimating from it.

Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, and Stehman 2014, "Estimating area and map accuracy for stratified random sampling when the strata are
different from the map classes", International Journal of Remote Sensing 35.
"""

from mm_ovseg.accuracy.assessment import assess_map
from mm_ovseg.accuracy.sample import sample_map

__all__ = ["assess_map", "sample_map"]
