"""The sample: ten weeks of dengue in southern Taiwan in 2014, as a public health office might have had them."""
