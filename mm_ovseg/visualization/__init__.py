"""Figures of data and results."""

from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix
from mm_ovseg.visualization.panels import PanelRow, draw_panels
